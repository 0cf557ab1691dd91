"""The strategy `parallel`: several models are asked at once, and the best of the first good answers is taken."""
