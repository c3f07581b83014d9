"""ChestX-ray14 in small, in the exact form of its publisher: twelve folders, table, two lists."""

from archives import image

from datasets.catalog import get

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"


def published(images: int = 120) -> dict[str, bytes]:
    """The files of an archive; four X-rays a patient, and of every five patients one is in the test list."""
    findings, rows, lists, files = get("chest-xray14").findings, [HEADER], ([], []), {}
    for i in range(images):
        patient, number = i // 4 + 1, i % 4
        name = f"{patient:08d}_{number:03d}.png"
        label = "No Finding" if i % 2 else "|".join(sorted({findings[i // 2 % 14], findings[i // 28 % 14]}))
        rows.append(f"{name},{label},{number},{patient},{20 + patient % 60},{'MF'[patient % 2]},PA")
        lists[patient % 5 == 0].append(name)
        files[f"images_{i * 12 // images + 1:03d}/images/{name}"] = image(i % 64, 32, "PNG")
    listed = {"Data_Entry_2017.csv": rows, "train_val_list.txt": lists[0], "test_list.txt": lists[1]}
    return {name: "\n".join(lines).encode() for name, lines in listed.items()} | files
