"""A distributed training pipeline for EfficientNet on Cloud TPU pods, and on one GPU or a laptop's CPU."""
