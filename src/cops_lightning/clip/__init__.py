"""The frozen backbone: CLIP weights, image encoder, text encoder."""
