from pathlib import Path
def write_html(result, path: Path) -> None:
    path.write_text('x')
