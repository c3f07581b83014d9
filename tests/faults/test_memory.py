"""A process that the kernel of the system kills, since its control group has no memory left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_notebook import small_notebook

LIMIT = 500 * 2**20
FILL = "held = []\nprint('filling', flush=True)\nwhile True:\n    held.append(bytearray(b'x') * 2**24)"


@pytest.fixture
def group():
    """A control group with `LIMIT` bytes of memory; returns the file that takes its processes."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = Path(root) / f"honest-brain-mri-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / limit).write_text(str(LIMIT))
        except OSError:
            if folder.is_dir():
                folder.rmdir()
            continue
        yield folder / "cgroup.procs"
        folder.rmdir()
        return
    pytest.skip("control groups cannot be made here (root is needed)")


def test_a_notebook_killed_for_memory_is_named_with_what_to_make_smaller(tmp_path, group):
    notebook = small_notebook(tmp_path / "small.ipynb", FILL)
    join = f"import os; open({str(group)!r}, 'w').write(str(os.getpid())); os.execv({sys.executable!r}, "
    command = [sys.executable, "-c", join + f"[{sys.executable!r}, '-m', 'utils.headless', {str(notebook)!r}])"]
    env = os.environ | {"BRAIN_MRI_OUTPUT": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1 and "filling" in done.stdout
    assert "the kernel died in cell 2; often out of memory: try a smaller batch_size or image_size" in done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.glob("runs/notebooks/*.ipynb"))
