"""The OpenAPI document, made from the schemas and the URL table, and the page that explores it."""
