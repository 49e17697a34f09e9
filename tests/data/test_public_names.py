"""What `cops_lightning.data` exports, and what that costs."""

import subprocess
import sys

import pytest

from cops_lightning import data


def test_every_public_name_is_there():
    assert all(getattr(data, name) is not None for name in data.__all__)
    assert len(set(data.__all__)) == len(data.__all__)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'VisB'"):
        _ = data.VisB


def test_the_help_of_cops_data_and_the_catalogue_need_neither_torch_nor_lightning():
    program = (
        "import sys, cops_lightning.cli.data as command\n"
        "command.main(['list'])\n"
        "try: command.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'cv2'} & set(sys.modules), sorted(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "usage: cops-data" in result.stdout
