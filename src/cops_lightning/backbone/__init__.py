"""Images and prompts to features: a frozen CLIP whose image tower also offers the value path."""
