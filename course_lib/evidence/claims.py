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
        on: what the course measures it on, and how many; a verdict is never printed without.
    """

    id: str
    source: str
    text: str
    chapters: tuple[str, ...]
    on: str

    @property
    def numbered(self) -> bool:
        """Whether it is one of C1 to C21, in the laboratory or on photographs."""
        return self.id[1:].removesuffix("_photographs").isdigit()


_FOOD = "photographs of food at 96 pixels to learn from, 400 to test; ImageNet's weights"
_FOOD_224 = "photographs of food at 224 pixels to learn from, 400 to test; ImageNet's weights"
_CIFAR = "photographs of CIFAR-10 to learn from, 1,000 to test; weights of its other five classes"

SAID = (
    Claim("C1", ARTICLE,
          "Fine-tuning saves compute and can raise accuracy, compared with training from scratch.",
          ("01_pretrain_finetune", "02_hotdog"),
          on="50 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C2", ARTICLE,
          "A source task that differs a lot from the target gives bad results (negative transfer).",
          ("01_pretrain_finetune",),
          on="100 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C3", ARTICLE,
          "Few similar data: train only the head. Few dissimilar: freeze the first layers. Many "
          "dissimilar: train from scratch. Many similar: fine-tune everything.",
          ("01_pretrain_finetune",),
          on="25 or 200 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C4", ARTICLE,
          "Fine-tuning wants a learning rate about ten times smaller than training from scratch.",
          ("06_staged",),
          on="50 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C5", ARTICLE,
          "Very few data: train the last layer only. A medium amount: freeze the first layers, "
          "which hold general features.", ("01_pretrain_finetune",),
          on="10 or 50 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C6", ARTICLE,
          "Train the head first: the errors of a random head destroy what the unfrozen layers "
          "knew.", ("06_staged",),
          on="25 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C7", THREAD,
          "Weights for another model: keep the entries with equal numel() and load them with "
          "strict=False.", ("03_loading_weights",),
          on="state dicts of small networks"),
    Claim("C8", THREAD,
          "Freezing all but the head gives almost the accuracy of fine-tuning everything, and is "
          "1.46 times as fast.", ("02_hotdog", "04_freezing"),
          on="96 drawn pictures to learn from, 120 to test, 96 pixels; ImageNet's weights"),
    Claim("C9", THREAD,
          "A head started from ImageNet's hot-dog class does better than a random one.",
          ("02_hotdog",),
          on="8 or 96 drawn pictures to learn from, 400 to test, 96 pixels; ImageNet's weights"),
    Claim("C10", THREAD,
          "The mean loss instead of the sum gives wildly different results.", ("06_staged",),
          on="80 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C11", THREAD,
          "Pictures must be normalised with the numbers that the network was trained with.",
          ("02_hotdog",),
          on="96 drawn pictures to learn from, 400 to test, 96 pixels; ImageNet's weights"),
    Claim("C12", PRINCIPLES,
          "One linear layer on the features of a trained network separates a new problem's "
          "classes well.", ("05_features",),
          on="96 drawn pictures to learn from, 400 to test, 96 pixels; ImageNet's weights"),
    Claim("C13", PRINCIPLES,
          "With enough data, transfer is not as good as training from scratch, but it needs far "
          "fewer examples.", ("05_features",),
          on="25, 100 or 200 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C14", LOADING,
          "The ending of a weights file tells what is in it.", ("03_loading_weights",),
          on="15 files of small networks"),
    Claim("C15", LOADING,
          "A model's state dict has to become a plain dict before it can be updated and loaded.",
          ("03_loading_weights",),
          on="state dicts of small networks"),
    Claim("C16", REPOST,
          "With learning rate 0 in all other layers and a high one in the last, the last layer "
          "converges fast.", ("06_staged",),
          on="50 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C17", REPOST,
          "A classical classifier on a network's features works: an SVM, naive Bayes, or any on "
          "the features of two networks joined.", ("05_features",),
          on="96 drawn pictures to learn from, 400 to test, 96 pixels; ImageNet's weights"),
    Claim("C18", REPOST,
          "A model trained on a few examples only is worse than a fine-tuned one.",
          ("05_features",),
          on="10 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C20", COURSE,
          "The errors of a random head hurt the unfrozen layers even if the learning rate starts "
          "small and rises (warm-up).", ("06_staged",),
          on="25 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("C21", COURSE,
          "The fewer examples there are, the more a network is better on them than on others "
          "(overfitting); and transfer lessens it.", ("02_hotdog",),
          on="10 or 200 digits of 8 x 8 pixels to learn from, 450 to test"),
)  # fmt: skip
"""What the five texts say, decided on small pictures that anybody can run again."""

OWN = (
    Claim("C19_photographs", PRINCIPLES,
          "Models made by transfer are more robust in varied, hard conditions.", ("05_features",),
          on=f"250 or 24,000 {_CIFAR}"),
    Claim("hotdog_margin", COURSE,
          "On the bundled pictures, at the same budget, fine-tuning a pretrained network beats "
          "training the same network from scratch.", ("02_hotdog",),
          on="96 drawn pictures to learn from, 120 to test, 96 pixels; ImageNet's weights"),
    Claim("recipe", COURSE,
          "With as many pictures passed through the network, the recipe is better on average than "
          "plain fine-tuning and than the frozen head.", ("06_staged",),
          on="50 or 200 digits of 8 x 8 pixels, two kinds; 32 drawn pictures, ImageNet's weights"),
    Claim("hops", PRINCIPLES,
          "A network that has learned a related task on the way (two hops) is a better start than "
          "one that has not (direct).", ("07_two_hops",),
          on="10, 50 or 200 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("hops_imagenet", COURSE,
          "With ImageNet's weights and a frozen body, a hop over other digits helps with digits; "
          "and a head does better on the features than on the old logits.", ("07_two_hops",),
          on="10, 50 or 200 digits at 48 pixels to learn from, 450 to test; ImageNet's weights"),
    Claim("hops_photographs", COURSE,
          "With ImageNet's weights and a frozen body, a hop over five classes of CIFAR-10 helps "
          "with the other five; and a head does better on the features than on the old logits.",
          ("07_two_hops",),
          on="10, 50 or 200 photographs of CIFAR-10 at 64 pixels to learn from, 500 to test; "
             "ImageNet's weights"),
    Claim("logits", PRINCIPLES,
          "A new layer on the old task's ten logits is enough for a new task.",
          ("07_two_hops",),
          on="25 or 100 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("forgetting", COURSE,
          "Learning a second task makes a network forget the first. A lower rate, frozen layers, a "
          "pull to the start, a few old examples, and averaged weights each lessen it, at no cost "
          "to the second.", ("07_two_hops",),
          on="100 digits of 8 x 8 pixels, turned, inverted and noisy, to learn from, 450 to test"),
    Claim("adversarial", PRINCIPLES,
          "A network that learns to make two domains indistinguishable carries what it learned on "
          "the labelled one over to the other, better than one that learns on the labelled alone.",
          ("08_strategies",),
          on="700 upright digits of 8 x 8 pixels with labels and 600 slanted without, 497 to test"),
    Claim("adversarial_photographs", PRINCIPLES,
          "The same from labelled drawn hot dogs to photographs without labels, on the features of "
          "a frozen network.", ("08_strategies",),
          on="150 drawn pictures with labels and 400 photographs without, 300 to test; "
             "ImageNet's weights"),
    Claim("distillation", PRINCIPLES,
          "A small network learns more from a large one's soft answers than from the labels alone.",
          ("08_strategies",),
          on="100 digits of 8 x 8 pixels to learn from, 497 to test; the teacher had 400 others"),
    Claim("distillation_photographs", PRINCIPLES,
          "On photographs, a small network learns more from an ImageNet network's answers than "
          "from the labels alone.", ("08_strategies",),
          on="500 photographs of CIFAR-10 to learn from, 1,000 to test"),
    Claim("disentangling", PRINCIPLES,
          "Content and style can be separated: in codes of their own, the one can't be predicted "
          "from the other's, and nothing of the content is lost.", ("08_strategies",),
          on="1,000 digits of 8 x 8 pixels in four looks to learn from, 397 to test"),
    Claim("crossmodal", PRINCIPLES,
          "Pictures and sentences can be learned together without labels: the right picture is "
          "found far more often than by chance, and a class named in words is told apart better "
          "than by ImageNet's row and as well as by a head trained on labels.",
          ("08_strategies",),
          on="192 drawn pictures with sentences to learn from, 80 to test; ImageNet's weights"),
    Claim("crossmodal_photographs", COURSE,
          "What learned hot dogs from drawn pictures and sentences knows them on photographs: "
          "better than ImageNet's row, and as well as a head trained on the drawn pictures' "
          "labels.", ("08_strategies",),
          on="192 drawn pictures with sentences to learn from, 200 photographs to test; "
             "ImageNet's weights"),
    Claim("fewshot", PRINCIPLES,
          "With one picture a class, class means of frozen features (prototypes) are better than "
          "fine-tuning; with ten, fine-tuning is better.", ("08_strategies",),
          on="1 to 10 digits a class, 8 x 8 pixels, 150 to test, four episodes a draw"),
    Claim("fewshot_photographs", COURSE,
          "With no labelled photograph at all, ImageNet's hot-dog row is better than prototypes of "
          "one and than a linear head on ten photographs a class.", ("08_strategies",),
          on="1 to 10 photographs a class, 200 to test, twenty episodes a draw; "
             "ImageNet's weights"),
    Claim("unlabelled", PRINCIPLES,
          "Pretraining without labels, by rotation or by contrast, makes a better start than none "
          "when labels are few.", ("08_strategies",),
          on="10 or 50 digits of 8 x 8 pixels to learn from, 300 without labels, 450 to test"),
    Claim("unlabelled_photographs", PRINCIPLES,
          "On photographs, pretraining without labels makes a better start than none when labels "
          "are few.", ("08_strategies",),
          on="25 or 250 photographs of CIFAR-10 to learn from, 2,500 without labels, "
             "1,000 to test"),
    Claim("adapters", PAPERS,
          "Small parts trained in a frozen transformer (LoRA, adapters, biases, norms, prompt "
          "tokens) beat its head alone, and LoRA is as good as training everything.",
          ("09_adapters",),
          on="50 digits of 8 x 8 pixels to learn from, 450 to test; a small transformer"),
    Claim("lp_ft", PAPERS,
          "A linear probe first, then fine-tuning of all layers: as good as fine-tuning at once on "
          "pictures like the training pictures, and better on others.", ("09_adapters",),
          on="25 digits of 8 x 8 pixels to learn from, 450 to test"),
    Claim("surgical", PAPERS,
          "Under a shift, training one layer beats training all: an early one if the pictures "
          "changed, the last if the labels did.", ("09_adapters",),
          on="50 digits of 8 x 8 pixels to learn from, 497 to test"),
    Claim("wise_ft", PAPERS,
          "Half of the way from a network to its fine-tuned weights costs nothing on the new "
          "pictures and keeps more on the others.", ("09_adapters",),
          on="100 digits of 8 x 8 pixels to learn from, 497 to test"),
    Claim("adapters_photographs", PAPERS,
          "On photographs, too, small parts trained in a frozen network beat its head alone, and "
          "LoRA is as good as training everything.", ("09_adapters",),
          on="100 photographs at 96 pixels to learn from, 400 to test; ImageNet's weights"),
    Claim("averages_photographs", PAPERS,
          "Trained on drawn pictures and tested on photographs: a probe first, weights half way, "
          "and the average of three runs are each better than plain fine-tuning.",
          ("09_adapters",),
          on="96 drawn pictures to learn from, 96 others and 400 photographs to test; "
             "ImageNet's weights"),
    Claim("soup", PAPERS,
          "The average of three fine-tuned networks is better than the best of them, on pictures "
          "like the training pictures and on others.", ("09_adapters",),
          on="100 digits of 8 x 8 pixels to learn from, 497 to test"),
    Claim("unequal_classes", COURSE,
          "Where one class has few pictures, weights that let every class count the same raise "
          "balanced accuracy and the small class's recall.", ("05_features",),
          on="8 or 20 drawn hot dogs and 90 others to learn from, 96 to test; ImageNet's weights"),
    Claim("unequal_photographs", COURSE,
          "On photographs, too, weights that let every class count the same raise balanced "
          "accuracy and the small class's recall.", ("05_features",),
          on="8 or 20 photographs of hot dogs and 90 others to learn from, 400 to test; ImageNet's "
             "weights"),
    Claim("picture_size", COURSE,
          "A linear head gains by larger pictures, and at 224 pixels beats a body trained at 96, "
          "with less work.", ("06_staged",),
          on="100 drawn pictures to learn from, 96 to test; ImageNet's weights"),
    Claim("size_photographs", COURSE,
          "On photographs, too, a linear head gains by larger pictures, and at 224 pixels beats a "
          "body trained at 96, with less work.", ("06_staged",),
          on="100 photographs to learn from, 400 to test; ImageNet's weights"),
    Claim("scaling", COURSE,
          "A head on features that are all divided by one number is better than on features scaled "
          "one by one, the more so the fewer pictures there are.", ("05_features",),
          on="12, 24 or 100 drawn pictures at 224 pixels to learn from, 96 to test; ImageNet's "
             "weights"),
    Claim("scaling_photographs", COURSE,
          "On photographs, too, a head on features that are all divided by one number is better "
          "than on features scaled one by one.", ("05_features",),
          on="12, 24 or 100 photographs at 224 pixels to learn from, 400 to test; ImageNet's "
             "weights"),
    Claim("deeper_head", COURSE,
          "A head with a hidden layer on frozen features is better than a linear one.",
          ("05_features",),
          on="24 or 96 drawn pictures to learn from, 400 to test, 96 pixels; ImageNet's weights"),
    Claim("deeper_head_photographs", COURSE,
          "On photographs, too, a head with a hidden layer is better than a linear one.",
          ("05_features",),
          on=f"20, 100 or 400 {_FOOD_224}"),
)  # fmt: skip


def _on_photographs(id: str, on: str) -> Claim:
    same = next(each for each in SAID if each.id == id)
    return Claim(f"{id}_photographs", same.source, same.text, same.chapters, on)


PHOTOGRAPHS = {
    "C1": f"10, 50 or 200 {_FOOD}",
    "C2": f"250 {_CIFAR}",
    "C3": f"10 or 200 {_FOOD}",
    "C4": f"250 {_CIFAR}",
    "C5": f"10 or 50 {_FOOD}",
    "C6": f"50 {_FOOD}",
    "C8": f"50 or 200 {_FOOD}",
    "C9": f"8 to 400 {_FOOD_224}",
    "C10": f"512 {_FOOD}",
    "C11": f"96 {_FOOD_224}",
    "C12": f"96 {_FOOD_224}",
    "C13": f"50 to 24,000 {_CIFAR}",
    "C16": f"50 {_FOOD}",
    "C17": f"96 {_FOOD_224}",
    "C18": f"10 {_FOOD}",
    "C20": f"50 {_FOOD}",
    "C21": f"10, 50 or 200 {_FOOD}",
}
"""Claims that are decided on photographs as well: what on, and how many."""

CLAIMS = (*SAID, *(_on_photographs(*each) for each in PHOTOGRAPHS.items()), *OWN)


def claim(name: str) -> Claim:
    """The claim of that id.

    Raises:
        UnknownNameError: there is none.
    """
    known = {each.id: each for each in CLAIMS}
    if name not in known:
        raise UnknownNameError(
            f"There is no claim {name!r}; there are C1 to C21 and "
            f"{', '.join(each for each in known if not each[1:].isdigit())}."
            f"{suggest(str(name), known)}"
        )
    return known[name]
