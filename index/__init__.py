"""Vectors and rows: the FAISS index and the LanceDB catalog. Knows nothing of video or models."""
