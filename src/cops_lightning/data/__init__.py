"""Datasets on disk to checked samples, and samples to tensors.

- `datamodules`: the published datasets, data of one's own, and one dataset to train on with many to test on.
- `catalog`: what is known of the published datasets. `readers`: from a name or a path to paired files, `load_index`.
- `dataset`: from files to batches. `tools`: what `cops-data` does.
"""
