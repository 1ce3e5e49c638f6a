"""A bar in a notebook leaves nothing behind: no widget that a saved file can't keep, no line."""

import nbformat
from nbclient import NotebookClient

CELL = """
from course_lib.data.progress import bar
for epoch in range(2):
    with bar(3, f"epoch {epoch}", True) as shown:
        for _ in range(3):
            shown.update()
            shown.refresh()
print("done")
"""


def test_a_bar_ends_as_nothing_in_the_file():
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    seen = []
    client = NotebookClient(book, timeout=120, kernel_name="python3")
    process = client.process_message

    def watched(message, *rest):
        content = message["content"]
        if message["msg_type"] in ("display_data", "update_display_data"):
            seen.append(content["data"]["text/plain"])
        return process(message, *rest)

    client.process_message = watched
    client.execute()
    bar, said = book.cells[0].outputs
    assert any("epoch 1" in each and "3/3" in each for each in seen)
    assert bar.data == {"text/plain": ""}
    assert said.text == "done\n"
    assert not [each for each in seen if "widget" in each]
