"""Procedural images of textures, objects and medical look-alikes, with defects and pixel-exact masks.

    from cops_lightning.demo.images import example
    from cops_lightning.demo.writer import write_all

    example("gear", "anomalous", 7)             # one image, its mask and its defect, always the same
    write_all(Path("data/procedural"))          # all on disk, as MVTec AD lies on disk

Auxiliary and test categories share no name with each other nor with the categories that the packaged backbone `mini`
was pre-trained on; two defects, thread and dent, are held out for test images. The generator teaches and tests
software: it is no measure of how well a method inspects real products, let alone patients.
"""
