// A question answers on the page: why the chosen option is right, or not.
document.addEventListener("submit", (event) => {
  const quiz = event.target.closest("form.quiz");
  if (!quiz) return;
  event.preventDefault();
  const chosen = new FormData(quiz).get(quiz.id);
  for (const reason of quiz.querySelectorAll("[data-option]"))
    reason.hidden = reason.dataset.option !== chosen;
});
