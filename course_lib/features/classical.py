"""Classical classifiers for features, as scikit-learn pipelines."""

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def classifiers() -> dict[str, Pipeline]:
    """New pipelines by name, with scikit-learn's usual settings: ``fit(X, y)``, ``score(X, y)``.

    * ``"svm"``: support vector machine with a Gaussian kernel.
    * ``"naive_bayes"``: Gaussian naive Bayes.
    * ``"logistic_regression"``: the linear head again, trained to the optimum with an L2 penalty.
    * ``"knn"``: the five nearest neighbours.

    Distances and penalties depend on the scale of a feature, so all but naive Bayes (whose
    variances are fitted for each feature) scale every feature to mean 0 and variance 1 first, with
    the training data's numbers.
    """
    steps: dict[str, list[tuple[str, Any]]] = {
        "svm": [("scale", StandardScaler()), ("classify", SVC())],
        "naive_bayes": [("classify", GaussianNB())],
        "logistic_regression": [
            ("scale", StandardScaler()),
            ("classify", LogisticRegression(max_iter=2000)),
        ],
        "knn": [("scale", StandardScaler()), ("classify", KNeighborsClassifier())],
    }
    return {name: Pipeline(each) for name, each in steps.items()}
