"""Classical classifiers for features, as scikit-learn pipelines."""

from typing import Any

from sklearn import neighbors, svm
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from course_lib.features.containers import FeaturesError
from course_lib.text import counted


class SVC(svm.SVC):
    """scikit-learn's, which says what to do where probabilities are asked for."""

    def predict_proba(self, X: Any) -> Any:
        """Refused: distances to a border are no probabilities."""
        raise FeaturesError(
            "A support vector machine gives no probabilities. For scores take "
            "decision_function(X); for probabilities another one, such as logistic_regression."
        )

    predict_log_proba = predict_proba


class KNeighborsClassifier(neighbors.KNeighborsClassifier):
    """scikit-learn's, which says at once when there are fewer rows than neighbours."""

    def fit(self, X: Any, y: Any) -> "KNeighborsClassifier":
        """As scikit-learn's; FeaturesError for fewer rows (N, D) than neighbours."""
        if len(y) < self.n_neighbors:
            fewer = max(1, len(y) - 1)
            raise FeaturesError(
                f"The {self.n_neighbors} nearest neighbours are asked, and there are only "
                f"{counted(len(y), 'row')} to fit. Give more, or "
                f"set_params(classify__n_neighbors={fewer})."
            )
        return super().fit(X, y)


def classifiers() -> dict[str, Pipeline]:
    """New pipelines by name, with scikit-learn's usual settings: ``fit(X, y)``, ``score(X, y)``.

    * ``"svm"``: support vector machine with a Gaussian kernel; it gives no probabilities.
    * ``"naive_bayes"``: Gaussian naive Bayes.
    * ``"logistic_regression"``: the linear head again, trained to the optimum with an L2 penalty.
    * ``"knn"``: the five nearest neighbours; so it needs five rows.

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
