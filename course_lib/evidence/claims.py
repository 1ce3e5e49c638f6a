"""The claims that the course tests: what texts about fine-tuning say, in our words."""

from dataclasses import dataclass

from course_lib.errors import UnknownNameError, suggest

ARTICLE = "a forum article on when and how to fine-tune, and how to freeze"
THREAD = "the forum thread under the d2l book's section on fine-tuning"
PRINCIPLES = "an introduction to transfer learning, its principle and an example"
LOADING = "a text on loading pretrained weights and freezing layers"
REPOST = "a text about pretraining and fine-tuning"
PAPERS = "the papers on small additions to frozen networks and on averages of weights"
COURSE = "this course"


@dataclass(frozen=True)
class Claim:
    """Something that is said about transfer learning and can be tested.

    Attributes:
        id: ``"C1"`` to ``"C18"``, or the name of a measurement of the course's own.
        source: where it is said.
        text: what is said.
        chapters: where the course comes to it, such as ``("01_pretrain_finetune",)``.
    """

    id: str
    source: str
    text: str
    chapters: tuple[str, ...]


CLAIMS = (
    Claim("C1", ARTICLE,
          "Fine-tuning saves compute and can raise accuracy, compared with training from scratch.",
          ("01_pretrain_finetune", "02_hotdog")),
    Claim("C2", ARTICLE,
          "A source task that differs a lot from the target gives bad results (negative transfer).",
          ("01_pretrain_finetune",)),
    Claim("C3", ARTICLE,
          "Few similar data: train only the head. Few dissimilar: freeze the first layers. Many "
          "dissimilar: train from scratch. Many similar: fine-tune everything.",
          ("01_pretrain_finetune",)),
    Claim("C4", ARTICLE,
          "Fine-tuning wants a learning rate about ten times smaller than training from scratch.",
          ("06_staged",)),
    Claim("C5", ARTICLE,
          "Very few data: train the last layer only. A medium amount: freeze the first layers, "
          "which hold general features.", ("01_pretrain_finetune",)),
    Claim("C6", ARTICLE,
          "Train the head first: the errors of a random head destroy what the unfrozen layers "
          "knew.", ("06_staged",)),
    Claim("C7", THREAD,
          "Weights for another model: keep the entries with equal numel() and load them with "
          "strict=False.", ("03_loading_weights",)),
    Claim("C8", THREAD,
          "Freezing all but the head gives almost the accuracy of fine-tuning everything, and is "
          "1.46 times as fast.", ("02_hotdog", "04_freezing")),
    Claim("C9", THREAD,
          "A head started from ImageNet's hot-dog class does better than a random one.",
          ("02_hotdog",)),
    Claim("C10", THREAD,
          "The mean loss instead of the sum gives wildly different results.", ("06_staged",)),
    Claim("C11", THREAD,
          "Pictures must be normalised with the numbers that the network was trained with.",
          ("02_hotdog",)),
    Claim("C12", PRINCIPLES,
          "One linear layer on the features of a trained network separates a new problem's "
          "classes well.", ("05_features",)),
    Claim("C13", PRINCIPLES,
          "With enough data, transfer is not as good as training from scratch, but it needs far "
          "fewer examples.", ("05_features",)),
    Claim("C14", LOADING,
          "The ending of a weights file tells what is in it.", ("03_loading_weights",)),
    Claim("C15", LOADING,
          "A model's state dict has to become a plain dict before it can be updated and loaded.",
          ("03_loading_weights",)),
    Claim("C16", REPOST,
          "With learning rate 0 in all other layers and a high one in the last, the last layer "
          "converges fast.", ("06_staged",)),
    Claim("C17", REPOST,
          "A classical classifier on a network's features works: an SVM, naive Bayes, or any on "
          "the features of two networks joined.", ("05_features",)),
    Claim("C18", REPOST,
          "A model trained on a few examples only is worse than a fine-tuned one.",
          ("05_features",)),
    Claim("hotdog_margin", COURSE,
          "On the bundled pictures, at the same budget, fine-tuning a pretrained network beats "
          "training the same network from scratch.", ("02_hotdog",)),
    Claim("recipe", COURSE,
          "With as many pictures passed through the network, the recipe is better on average than "
          "plain fine-tuning and than the frozen head.", ("06_staged",)),
    Claim("hops", PRINCIPLES,
          "A network that has learned a related task on the way (two hops) is a better start than "
          "one that has not (direct).", ("07_two_hops",)),
    Claim("hops_imagenet", COURSE,
          "With ImageNet's weights and a frozen body, a hop over other digits helps with digits; "
          "and a head does better on the features than on the old logits.", ("07_two_hops",)),
    Claim("hops_photographs", COURSE,
          "With ImageNet's weights and a frozen body, a hop over five classes of CIFAR-10 helps "
          "with the other five; and a head does better on the features than on the old logits.",
          ("07_two_hops",)),
    Claim("logits", PRINCIPLES,
          "A new layer on the old task's ten logits is enough for a new task.",
          ("07_two_hops",)),
    Claim("forgetting", COURSE,
          "Learning a second task makes a network forget the first. A lower rate, frozen layers, a "
          "pull to the start, a few old examples, and averaged weights each lessen it, at no cost "
          "to the second.", ("07_two_hops",)),
    Claim("adapters", PAPERS,
          "Small parts trained in a frozen transformer (LoRA, adapters, biases, norms, prompt "
          "tokens) beat its head alone, and LoRA is as good as training everything.",
          ("09_adapters",)),
    Claim("lp_ft", PAPERS,
          "A linear probe first, then fine-tuning of all layers: as good as fine-tuning at once on "
          "pictures like the training pictures, and better on others.", ("09_adapters",)),
    Claim("surgical", PAPERS,
          "Under a shift, training one layer beats training all: an early one if the pictures "
          "changed, the last if the labels did.", ("09_adapters",)),
    Claim("wise_ft", PAPERS,
          "Half of the way from a network to its fine-tuned weights costs nothing on the new "
          "pictures and keeps more on the others.", ("09_adapters",)),
    Claim("adapters_photographs", PAPERS,
          "On photographs, too, small parts trained in a frozen network beat its head alone, and "
          "LoRA is as good as training everything.", ("09_adapters",)),
    Claim("averages_photographs", PAPERS,
          "Trained on drawn pictures and tested on photographs: a probe first, weights half way, "
          "and the average of three runs are each better than plain fine-tuning.",
          ("09_adapters",)),
    Claim("soup", PAPERS,
          "The average of three fine-tuned networks is better than the best of them, on pictures "
          "like the training pictures and on others.", ("09_adapters",)),
)  # fmt: skip


def claim(name: str) -> Claim:
    """The claim of that id.

    Raises:
        UnknownNameError: there is none.
    """
    known = {each.id: each for each in CLAIMS}
    if name not in known:
        raise UnknownNameError(
            f"There is no claim {name!r}; there are C1 to C18 and "
            f"{', '.join(each for each in known if not each[1:].isdigit())}."
            f"{suggest(str(name), known)}"
        )
    return known[name]
