"""What `quorum eval` is made of: questions, who is asked, how answers are graded, what is stored, and what is made of it."""
