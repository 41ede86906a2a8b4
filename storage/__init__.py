"""What survives a restart: dreams, users, files. It must not know HTTP, nor who processes an image."""
