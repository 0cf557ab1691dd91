"""What is learned from judged answers: weights of a panel, calibrators, predictors of success. Pure functions to JSON artefacts.

Fitting needs numpy, scipy and scikit-learn, which are imported when a fit begins and not before; what serves needs none of them.
"""
