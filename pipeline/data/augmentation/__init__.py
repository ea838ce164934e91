"""AutoAugment, RandAugment and random erasing, and the operations on pixels that they are made of."""
