"""What tests share: eight simulated devices, quick compilation, no race of hypothesis
against the clock, the command in this process, and SmolLM2's tokenizer."""

import os
from pathlib import Path

from hypothesis import settings
import pytest

from genlm.cli.__main__ import main
from tests.tokenizer import made

FLAGS = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    " --xla_cpu_collective_call_terminate_timeout_seconds=300"  # a busy machine's wait
)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("PJRT_NPROC", "32")  # see genlm.parallel.hosts.spare_threads
settings.register_profile("genlm", deadline=None, derandomize=True)
settings.load_profile("genlm")


def pytest_addoption(parser):
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="a skipped test fails the run, but for one that needs GENLM_TEST_DATA",
    )


def pytest_sessionfinish(session):
    """Make --no-skips hold: what a missing library skips shows nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not session.config.getoption("--no-skips") or session.exitstatus:
        return
    if reporter is None:  # one of several workers, whose reports go to the first
        return
    skipped = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    if missing := [why for why in skipped if "GENLM_TEST_DATA" not in why]:
        reporter.write_line(f"skipped, and --no-skips: {missing[0]}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def smollm2_folder(tmp_path_factory) -> Path:
    return made.smollm2(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture
def mistake_here(capsys):
    """Like tests.command.mistake, in this process, where jax is loaded already."""

    def run(*arguments: object) -> str:
        assert main([str(a) for a in arguments]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1, said
        assert said.startswith(f"genlm {arguments[0]}: "), said
        return said

    return run
