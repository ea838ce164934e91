"""The reports of a run: its record, TensorBoard, figures, and where its time went."""
