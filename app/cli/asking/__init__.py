"""What `quorum ask` is made of: a question, where it is answered (`service`, `here`), and how that is shown."""
