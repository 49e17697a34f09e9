"""What only the pre-training of the packaged backbone `mini` renders and says: its categories and its captions.

The package's generator draws them; an installed package needs none of this.
"""
