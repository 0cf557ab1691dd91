"""What is learned from judged answers: weights of a panel, calibrators, predictors of success. Pure, from rows to JSON.

Fitting imports numpy, scipy and scikit-learn when it begins and not before; what serves needs none of them.
"""
