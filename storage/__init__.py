"""What survives a restart: dreams, users, files. It must not know HTTP, or how an image is processed."""
