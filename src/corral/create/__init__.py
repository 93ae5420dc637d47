"""Making models: from other models, from uploaded files, from a Modelfile; converting and quantizing on the way."""
