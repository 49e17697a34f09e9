"""From a stream of images to files of predictions: rows, heat maps, masks and regions, resumed where they stopped."""
