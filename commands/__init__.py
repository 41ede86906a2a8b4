"""What a host does from the terminal, besides running the server: one module for each subject."""
