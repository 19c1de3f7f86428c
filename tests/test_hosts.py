"""nest.training.hosts, and whole runs of two processes."""

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT, TINY_GAN
from PIL import Image
from processes import PATIENCE, free_port, killed_at_the_end

from nest.errors import UserError
from nest.training import hosts

EPOCH = 1437 / 32


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("host:1", 2, None), "give --coordinator, --num_processes and --process_id"),
        ((None, 2, 0), "give --coordinator, --num_processes and --process_id"),
        (("host", 2, 0), "--coordinator=host is not HOST:PORT"),
        (("host:65535", 2, 0), "is not HOST:PORT with a port below 65535"),
        (("host:1", 2, 2), "they count from 0 to 1"),
    ],
)
def test_flags_that_do_not_fit_together(flags, message: str):
    with pytest.raises(UserError) as error:
        hosts.find_place(*flags, 1)
    assert message in str(error.value)


def test_a_process_alone_stays_alone(monkeypatch):
    assert hosts.find_place(None, None, None, 1) is None
    assert hosts.find_place(None, 1, None, 1) is None
    assert hosts.gather(5) == [5]
    slurm(monkeypatch, SLURM_NTASKS="1")
    assert hosts.find_place(None, None, None, 1) is None


def slurm(monkeypatch, **changed: str) -> None:
    """Stand in a task of a SLURM step of two nodes of four."""
    values = dict(
        SLURM_JOB_ID="4097",
        SLURM_STEP_NODELIST="gpu[07-08]",
        SLURM_NTASKS="8",
        SLURM_PROCID="6",
        SLURM_LOCALID="2",
        SLURM_STEP_TASKS_PER_NODE="4(x2)",
    )
    for name, value in (values | changed).items():
        monkeypatch.setenv(name, value)


def test_slurm_gives_each_task_its_device(monkeypatch):
    slurm(monkeypatch, CUDA_VISIBLE_DEVICES="0,1,2,3")
    place = hosts.find_place(None, None, None, 1)
    assert place == hosts.Place("gpu07:61441", 6, 8, (2,))


@pytest.mark.parametrize(
    "changed",
    [
        dict(SLURM_STEP_TASKS_PER_NODE="1(x8)", SLURM_LOCALID="0"),
        dict(CUDA_VISIBLE_DEVICES="0"),
    ],
)
def test_a_slurm_task_takes_what_is_its_alone(monkeypatch, changed: dict):
    slurm(monkeypatch, **changed)
    assert hosts.find_place(None, None, None, 1).local_device_ids is None


@pytest.mark.parametrize("count", [1, 4])
def test_a_tpu_host_asks_its_metadata(monkeypatch, count: int):
    answers = {
        "agent-worker-number": str(count - 1),
        "worker-network-endpoints": ",".join(
            f"unknown:unknown:127.0.0.{k + 1}" for k in range(count)
        ),
        "tpu-env": "ZONE: 'here'\n",
    }

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = answers[self.path.rsplit("/", 1)[1]].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    for module in ("cluster", "cloud_tpu_cluster"):
        name = f"jax._src.clusters.{module}.running_in_cloud_tpu_vm"
        monkeypatch.setattr(name, True)
    for name in ("http_proxy", "HTTP_PROXY", "TPU_SKIP_MDS_QUERY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = hosts.find_place(None, None, None, 5)
        server.shutdown()
    expected = hosts.Place("127.0.0.1:8482", 3, 4, None)
    assert place == (None if count == 1 else expected)


def test_facts_that_differ_are_named(monkeypatch):
    class Two:
        names = ("here, pid 1", "there, pid 2")

        def gather(self, facts: dict) -> list[dict]:
            # The first by name is told: the same one on every process.
            return [facts, dict.fromkeys(facts, 1)]

    monkeypatch.setattr(hosts, "_roll", Two())
    hosts.agree({"config.seed": 1})
    many = {f"config.{letter}": 0 for letter in "zyxwvu"} | {"config.seed": 0}
    with pytest.raises(UserError) as error:
        hosts.agree(many)
    assert str(error.value) == (
        "config.seed is 1 on process 1 (there, pid 2), but 0 on process 0 (here, pid "
        "1); start the same on all hosts"
    )


NEST = {
    "model.layers": (1, 1),
    "model.widths": (8, 8),
    "model.heads": (2, 2),
    "model.drop_path": 0.2,
    "num_epochs": 12 / EPOCH,
    "warmup_epochs": 3 / EPOCH,
    "eval_every_epochs": 6 / EPOCH,
    "checkpoint_every_epochs": 4 / EPOCH,
    "keep_checkpoints": 9,
    "log_every_steps": 1,
}


class Run:
    """train.py or evaluate.py on the digits as so many processes."""

    def __init__(
        self,
        path: Path,
        *flags: str,
        count: int = 2,
        devices: int = 2,
        program: str = "train.py",
        config: str = "digits_nest.py",
        settings: dict = NEST,
        last: tuple[str, ...] = (),
    ):
        port = free_port()
        common = [
            sys.executable,
            str(ROOT / program),
            f"--config={ROOT / 'configs' / config}",
            f"--workdir={path}",
            *(f"--config.{name}={value}" for name, value in settings.items()),
            "--peer_timeout=30",
            *flags,
        ]
        if count > 1:
            common += [f"--coordinator=localhost:{port}", f"--num_processes={count}"]
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
            "--xla_backend_optimization_level=0"
        }
        self.processes = [
            subprocess.Popen(
                common
                + ([f"--process_id={index}"] if count > 1 else [])
                + (list(last) if index == count - 1 else []),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]

    def until(self, beginning: str) -> None:
        """Read process 0's output up to a line."""
        for line in self.processes[0].stdout:
            if line.startswith(beginning):
                return
        raise AssertionError(self.processes[0].communicate()[1])

    def end(self) -> list[tuple[int, list[str], list[str]]]:
        """Status and the lines of both outputs of each process, without gloo's."""
        count = len(self.processes)
        with killed_at_the_end(self.processes), ThreadPoolExecutor(count) as pool:
            outputs = pool.map(lambda x: x.communicate(None, PATIENCE), self.processes)
            return [
                (process.returncode, *map(without_gloo, output))
                for process, output in zip(self.processes, outputs, strict=True)
            ]


def without_gloo(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("[Gloo]")]


def curve(path: Path) -> dict[tuple[int, str], float]:
    """What was logged of the model, by step and name."""
    rows = [json.loads(x) for x in (path / "metrics.jsonl").read_text().splitlines()]
    return {
        (row["step"], name): value
        for row in rows
        for name, value in row.items()
        if name.startswith(("train/loss", "train/acc", "train/grad", "eval/"))
    }


def assert_same_curve(path: Path, reference: Path) -> None:
    ours, theirs = curve(path), curve(reference)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        # The order of float32 sums differs with the number of devices.
        assert ours[key] == pytest.approx(value, abs=1e-6), key


def copy_up_to(step: int, path: Path, to: Path) -> Path:
    """Copy a run as if it had been killed after a checkpoint."""
    shutil.copytree(path, to)
    for folder in to.glob("*/[0-9]*"):
        if int(folder.name) > step:
            shutil.rmtree(folder)
    return to


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The run of one process on four devices."""
    path = tmp_path_factory.mktemp("runs") / "alone"
    ((status, _, errors),) = Run(path, count=1, devices=4).end()
    assert status == 0, errors
    return path


@pytest.fixture(scope="module")
def together(alone: Path) -> tuple[Path, list]:
    """A run of two processes, interrupted at one and continued by both."""
    path = alone.parent / "together"
    run = Run(path)
    with killed_at_the_end(run.processes):
        run.until("step 2/")
        run.processes[1].send_signal(signal.SIGTERM)
        return path, [run.end(), Run(path).end()]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_the_same_step(together):
    path, ((first, second), _) = together
    assert first[0] == second[0] == 128 + signal.SIGTERM, (first, second)
    assert first[1][-1].startswith("stopped by SIGTERM; step ")
    stopped = int(first[1][-1].split()[4])
    assert 2 <= stopped < 12 and (path / "checkpoints" / str(stopped)).exists()
    assert second[1:] == ([], [])


@pytest.mark.slow
def test_two_processes_are_one_run(alone: Path, together):
    path, (_, (first, second)) = together
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert first[1][1].startswith("resuming at step ")
    assert "4 cpu device(s) of 2 process(es)" in first[1][1]
    assert second[1:] == ([], [])
    assert_same_curve(path, alone)
    environments = json.loads((path / "environment.json").read_text())
    assert [x["process_count"] for x in environments] == [2, 2]


@pytest.mark.slow
def test_two_processes_evaluate_every_example_once(alone: Path):
    flags = ("--config.eval_batch_size=100", "--config.localization.method=")
    run = Run(alone, *flags, program="evaluate.py")
    first, second = run.end()
    assert first[0] == second[0] == 0, (first, second)
    result = json.loads(first[1][-1])
    assert second[1:] == ([], [])
    assert (result["step"], result["examples"]) == (12, 360)
    for name in ("loss", "top1", "top5"):
        assert result[name] == pytest.approx(curve(alone)[12, f"eval/{name}"], abs=1e-6)


@pytest.mark.slow
def test_hosts_that_evaluate_other_checkpoints_end(alone: Path):
    run = Run(alone, program="evaluate.py", last=("--checkpoint=4",))
    for status, output, errors in run.end():
        assert status == 1
        assert len(errors) == 1, errors
        assert "--checkpoint is 4 on process 1 (" in errors[0]
        assert not any("test accuracy" in line for line in output)


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices_and_processes(alone: Path, tmp_path: Path):
    one = copy_up_to(4, alone, tmp_path / "one")
    ((status, _, errors),) = Run(one, count=1, devices=1).end()
    assert status == 0, errors
    two = copy_up_to(8, one, tmp_path / "two")
    ((status, _, errors),) = Run(two, count=1, devices=2).end()
    assert status == 0, errors
    assert_same_curve(two, alone)
    pair = copy_up_to(8, two, tmp_path / "pair")
    for status, _, errors in Run(pair).end():
        assert status == 0, errors
    assert_same_curve(pair, alone)


@pytest.mark.slow
def test_two_processes_train_a_gan_as_one(tmp_path: Path):
    gan = dict(
        config="digits_generator.py",
        settings=TINY_GAN | {"num_steps": 4, "sample_every_steps": 2},
    )
    runs = (
        Run(tmp_path / "one", count=1, devices=4, **gan),
        Run(tmp_path / "two", **gan),
    )
    for run in runs:
        for status, _, errors in run.end():
            assert status == 0, errors
    rows = [
        (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        for name in ("one", "two")
    ]
    assert len(rows[0]) == len(rows[1]) == 4
    for one, two in zip(*(map(json.loads, lines) for lines in rows), strict=True):
        for name, value in one.items():
            if "per_second" not in name and "share" not in name:
                # The order of float32 sums; the two players feed on each other's.
                assert two[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    names = [
        sorted(x.name for x in (tmp_path / n / "samples").iterdir())
        for n in ("one", "two")
    ]
    assert names[0] == names[1] == ["0000002.png", "0000004.png"]


@pytest.mark.slow
def test_a_killed_process_ends_the_other(tmp_path: Path):
    """Of process 0, JAX's service dies, too, and may say so before we do."""
    run = Run(tmp_path)
    with killed_at_the_end(run.processes):
        run.until("step 1/")
        run.processes[1].kill()
        began = time.monotonic()
        status, _, errors = run.end()[0]
    assert time.monotonic() - began < 30  # the timeout for one that is silent
    assert status == 1 and len(errors) == 1, errors
    assert "train.py: process 1 (" in errors[0] and "died or its" in errors[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.lr_per_256=0.1", "config.lr_per_256 is 0.1 on process 1 ("),
        ("--workdir=elsewhere", "--workdir has to be one folder for all"),
    ],
)
def test_hosts_that_differ_end_before_the_first_step(
    tmp_path: Path, flag: str, message: str
):
    flag = flag.replace("elsewhere", str(tmp_path / "elsewhere"))
    for status, output, errors in Run(tmp_path / "run", last=(flag,)).end():
        assert status == 1
        assert len(errors) == 1 and message in errors[0], errors
        assert not any(line.startswith("step") for line in output)


@pytest.mark.slow
def test_an_error_of_one_process_ends_both(tmp_path: Path):
    data = ("--config.data.source=folder", "--config.data.holdout=0.2")
    run = Run(tmp_path, *data, "--config.data.data_dir=/proc/none")
    for status, _, errors in run.end():
        assert status == 1
        assert len(errors) == 1 and "/proc/none" in errors[0], errors


@pytest.mark.slow
def test_an_image_that_one_host_cannot_read_ends_both(tmp_path: Path):
    """It is found as a split goes into memory, right before the first step."""
    for host in ("whole", "torn"):
        for split in ("train", "test"):
            for k in range(64):
                file = tmp_path / host / split / "ab"[k % 2] / f"{k}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), k).save(file)
    broken = tmp_path / "torn" / "train" / "b" / "7.png"
    broken.write_bytes(b"no image")
    flags = (
        "--config.data.source=folder",
        "--config.data.in_memory=True",
        "--config.data.eval_split=test",
        f"--config.data.data_dir={tmp_path / 'whole'}",
    )
    last = (f"--config.data.data_dir={tmp_path / 'torn'}",)
    for status, output, errors in Run(tmp_path / "run", *flags, last=last).end():
        assert status == 1
        assert len(errors) == 1 and f"{broken} is not a readable" in errors[0], errors
        assert not any(line.startswith("step") for line in output)
