"""Everything that happens to an image after the 201. It must not know HTTP."""
