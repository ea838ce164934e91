"""From the bytes of an image file to pixels: formats, headers, and JPEGs of which only a crop is decoded."""
