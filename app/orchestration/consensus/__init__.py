"""The strategy `consensus`: a panel answers, and what its answers say together is the answer."""
