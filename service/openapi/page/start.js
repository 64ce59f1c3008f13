"use strict";

// The page is beside the service, also behind proxies that the service does not know of.
const server = new URL(".", location.href).href.replace(/\/$/, "");

// The token stays in the page's memory: it is gone when the page is.
fetch("openapi.json")
  .then((answer) => answer.json())
  .then((document) =>
    SwaggerUIBundle({
      spec: { ...document, servers: [{ url: server }] },
      dom_id: "#page",
      deepLinking: true,
      displayRequestDuration: true,
      filter: true,
      persistAuthorization: false,
      tryItOutEnabled: true,
      // Nobody else is asked whether the document is valid.
      validatorUrl: null,
    }),
  );
