"""tools: a model that acts through the tools of the service and of the client."""
