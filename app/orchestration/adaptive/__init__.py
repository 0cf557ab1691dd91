"""The strategy `adaptive`: looks at the task and the models, and chooses who is asked, and how."""
