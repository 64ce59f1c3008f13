"""The OpenAPI document and the page that explores it."""
