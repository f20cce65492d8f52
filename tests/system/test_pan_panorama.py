"""What ``pan_instcert`` does on a Panorama and on the firewalls behind it: against emulated ones, in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from certhooks import address
from certhooks.deadline import Deadline
from certhooks.errors import BadNameError
from certhooks.target import Run
from certhooks.trust import Trust
from certhooks_pan import instcert, panrc, scope
from certhooks_pan.wanted import Wish
from tests.lab.panos import DeviceResult, Fault, Firewall, Outcome, Panorama, replies
from tests.lab.pushes import NAME, attempt, imports, write

if TYPE_CHECKING:
    from tests.lab.site import Site

pytestmark = pytest.mark.usefixtures("brisk")
BRANCHES = ("-c", NAME, "-p", "GP", "--template", "Branches")
REFUSAL = ("Validation Error:", "ssl-tls-service-profile is invalid")


@pytest.fixture
def pano(site: Site) -> Panorama:
    """Start a Panorama with the template Branches in the stack S, and two firewalls in that stack."""
    made = site.panorama()
    made.add_template("Branches")
    add_profile(made, "Branches")
    fws = [site.firewall(f"fw{n}.example.test", serial=f"00700{n}") for n in (1, 2)]
    made.add_stack("S", templates=["Branches"], devices=[fw.serial for fw in fws])
    for fw in fws:
        made.attach(fw)
    return made


def add_profile(pano: Panorama, template: str, *, name: str = "GP", stack: bool = False, vsys: str = "") -> str:
    """Add a profile on a certificate of its own to a template or stack, and return the place."""
    place = pano.template_path(template, stack=stack, vsys=vsys)
    pano.add_profile(name, certificate=f"old-{name}", below=place)
    return place


def bound(pano: Panorama, place: str, profile: str = "GP") -> str:
    """Return the certificate of a profile in Panorama's running configuration."""
    pano.tick()
    (found,) = pano.config.find_running(f"{place}/ssl-tls-service-profile/entry[@name='{profile}']/certificate")
    return found.text or ""


def firewalls(pano: Panorama) -> list[Firewall]:
    """Return the firewalls behind a Panorama."""
    return list(pano.firewalls.values())


# -- places ------------------------------------------------------------------------------------------------------


def test_panoramas_own_certificate_and_management(site: Site) -> None:
    """Without a template it is Panorama's own: under /config/panorama, bound, and served after the restart."""
    pano = site.panorama()
    site.trusted.write_bytes(site.trusted.read_bytes() + site.ca.pem)
    pano.add_certificate("mgmt", site.ca.issue(["localhost"]))
    pano.add_profile("WEB", certificate="mgmt")
    pano.use_for_management("WEB")
    issued = write(site, site.ca.intermediate("Middle CA").issue([NAME, "localhost"]))
    done = site.instcert("-c", NAME, "-p", "WEB", pano)
    assert done.code == 0, done
    assert pano.certificate(NAME, running=True, below="/config/panorama") == issued.certificate
    assert pano.served() == issued.certificate
    assert all(len(name) <= 31 for _, name in imports(pano))


@pytest.mark.parametrize("words", [["-n", "x" * 32], ["-n", "x" * 27, "-Y"]])
def test_names_are_shorter_on_a_panorama(site: Site, pano: Panorama, words: list[str]) -> None:
    """31 characters, also for what goes on to a firewall, the year counted in; refused before anything is sent."""
    site.certificate()
    before = pano.snapshot()
    for extra in ([], ["--template", "Branches"]):
        done = site.instcert("-c", NAME, *words, *extra, pano)
        assert (done.code, "31 are allowed" in done.err) == (2, True)
    assert pano.snapshot() == before


def test_the_year_counts_before_there_is_a_certificate(site: Site, pano: Panorama) -> None:
    """The look before a certificate is requested refuses a name that will be too long with its year."""
    device = address.parse(f"localhost:{pano.port}")
    contexts = Trust(site.trusted).contexts()
    made = instcert.target(device, Wish("x" * 27, year=True), panrc.read(site.panrc), contexts)
    made.run = Run(Deadline(10))
    with pytest.raises(BadNameError, match="31 are allowed"):
        made.survey()
    made.close()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--template", "Brunches"], 2, "no template Brunches"),
        (["--template-stack", "T"], 2, "no template-stack T"),
        (["--template", "Branches", "-p", "XP"], 2, "there are: GP"),
        (["--template", "Branches", "--vsys", "vsys7"], 2, "no template Branches, vsys vsys7"),
        (["--vsys", "vsys1"], 1, "has no vsys"),
        (["--template", "Lonely", "--push"], 1, "in no template stack"),
    ],
)
def test_what_a_panorama_does_not_have_is_refused_before_an_import_creates_it(
    site: Site, pano: Panorama, words: list[str], code: int, said: str
) -> None:
    """Templates, stacks, virtual systems and profiles that are not there: an error, and nothing was sent."""
    pano.add_template("Lonely")
    site.certificate()
    before = pano.snapshot()
    done = site.instcert("-c", NAME, *words, pano)
    assert (done.code, said in done.err) == (code, True), done
    assert pano.snapshot() == before
    assert not pano.count("import")


def test_a_template_is_written_and_nothing_pushed_unasked(site: Site, pano: Panorama) -> None:
    """--template puts pair and intermediates into the template and binds its profile; devices stay as they are."""
    issued = write(site, site.ca.intermediate("Middle CA").issue(NAME))
    done = site.instcert(*BRANCHES, pano)
    assert done.code == 0, done
    place = pano.template_path("Branches")
    assert pano.certificate(NAME, running=True, below=place) == issued.certificate
    assert bound(pano, place) == NAME
    assert len(imports(pano)) == 2
    assert not pano.count("commit all")
    assert pano.entry(NAME) is None


def test_a_vsys_of_a_template_is_aimed_at_and_let_go(site: Site, pano: Panorama) -> None:
    """The device ignores target-tpl-vsys (PAN-257229): the session is pointed at the vsys, and away again."""
    place = add_profile(pano, "Branches", name="VP", vsys="vsys1")
    issued = site.certificate()
    done = site.instcert("-c", NAME, "-p", "VP", "--template", "Branches", "--vsys", "vsys1", pano)
    assert done.code == 0, done
    assert pano.certificate(NAME, running=True, below=place) == issued.certificate
    assert pano.entry(NAME, below=pano.template_path("Branches")) is None
    assert bound(pano, place, "VP") == NAME
    assert not pano.targets


@pytest.mark.parametrize("fault", ["refused", "dropped"])
def test_the_aim_is_taken_back_after_a_failure_too(site: Site, pano: Panorama, fault: str) -> None:
    """A refused import and a lost connection leave no session that points into a template."""
    add_profile(pano, "Branches", name="VP", vsys="vsys1")
    site.certificate()
    if fault == "refused":
        pano.switches.key_for_csr_errors = 1
    else:
        pano.faults.add(Fault.DROP_BEFORE, type="import", nth=1)
    done = site.instcert("-c", NAME, "-p", "VP", "--template", "Branches", "--vsys", "vsys1", pano)
    assert done.code == (12 if fault == "refused" else 0), done
    assert not pano.targets


def test_an_aim_that_a_killed_run_left_does_not_catch_the_next_import(site: Site, pano: Panorama) -> None:
    """A session that still points at some template's vsys is pointed nowhere before Panorama's own is imported."""
    pano.targets["certhooks"] = ("Branches", "vsys1")
    issued = site.certificate()
    done = site.instcert("-c", NAME, pano)
    assert done.code == 0, done
    assert pano.certificate(NAME, running=True) == issued.certificate


@pytest.mark.parametrize("vsys", ["", "vsys1"])
def test_a_template_stack_is_a_place_too(site: Site, pano: Panorama, vsys: str) -> None:
    """--template-stack writes into the stack itself, or a vsys of it, and --push pushes that stack."""
    place = add_profile(pano, "S", name="SP", stack=True, vsys=vsys)
    issued = site.certificate()
    words = ["--vsys", vsys] if vsys else []
    done = site.instcert("-c", NAME, "-p", "SP", "--template-stack", "S", *words, "--push", pano)
    assert done.code == 0, done
    assert pano.certificate(NAME, running=True, below=place) == issued.certificate
    assert bound(pano, place, "SP") == NAME
    assert pano.count("commit all") == 1
    assert all(fw.certificate(NAME, running=True, vsys=vsys) == issued.certificate for fw in firewalls(pano))


# -- pushes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_a_push_tells_one_result_a_device(site: Site, pano: Panorama, *, as_json: bool) -> None:
    """--push brings it to every device of the stack, and both outputs list them; OK lines in <errors> are no errors."""
    issued = site.certificate()
    done = site.instcert(*BRANCHES, "--push", *["--json"] * as_json, pano)
    assert done.code == 0, done
    for fw in firewalls(pano):
        assert fw.certificate(NAME, running=True) == issued.certificate
        assert fw.profile_certificate("GP") == NAME
    if as_json:
        parts = json.loads(done.out)["parts"]
        assert [part["result"] for part in parts] == ["OK", "OK"]
        assert [part["name"] for part in parts] == [f"{fw.hostname} ({fw.serial})" for fw in firewalls(pano)]
    else:
        assert all(f"{fw.hostname} ({fw.serial}): OK" in done.out for fw in firewalls(pano))


def test_one_device_that_fails_is_named_although_panorama_says_ok(site: Site, pano: Panorama) -> None:
    """Panorama's job is OK, one device's is not: exit code 13 naming it with its lines, and the others are told too."""
    good, bad = firewalls(pano)
    pano.push_results[bad.serial] = DeviceResult(bad.serial, bad.hostname, ok=False, lines=REFUSAL)
    site.certificate()
    done = site.instcert(*BRANCHES, "--push", pano)
    assert done.code == 13, done
    assert f"{bad.hostname} ({bad.serial}): Validation Error:" in done.err
    assert "ssl-tls-service-profile is invalid" in done.err
    assert f"{good.hostname} ({good.serial}): OK" in done.out
    assert attempt(site)["outcome"] == "failed"
    assert bound(pano, pano.template_path("Branches")) == NAME


def test_after_a_failed_push_the_same_command_pushes_again(site: Site, pano: Panorama) -> None:
    """Panorama has it and a device has not: the next run pushes and imports nothing, the one after that rests."""
    _, bad = firewalls(pano)
    pano.push_results[bad.serial] = DeviceResult(bad.serial, bad.hostname, ok=False, lines=REFUSAL)
    issued = site.certificate()
    assert site.instcert(*BRANCHES, "--push", pano).code == 13
    pano.push_results.clear()
    done = site.instcert(*BRANCHES, "--push", pano)
    assert done.code == 0, done
    assert bad.certificate(NAME, running=True) == issued.certificate
    assert len(imports(pano)) == 1
    assert "nothing to do" in site.instcert(*BRANCHES, "--push", pano).out
    assert pano.count("commit all") == 2


def test_push_after_a_run_without_it_reaches_the_devices(site: Site, pano: Panorama) -> None:
    """What a run without --push put into the template is pushed by one with it, although Panorama lacks nothing."""
    issued = site.certificate()
    assert site.instcert(*BRANCHES, pano).code == 0
    done = site.instcert(*BRANCHES, "--push", pano)
    assert done.code == 0, done
    assert all(fw.certificate(NAME, running=True) == issued.certificate for fw in firewalls(pano))
    assert "would push" not in site.instcert(*BRANCHES, "--push", "--dry-run", pano).out


def test_devices_that_are_still_at_it_are_waited_for(site: Site, pano: Panorama) -> None:
    """Panorama's job has ended while a device's result is PEND: its own end counts, good or bad."""
    _, slow = firewalls(pano)
    pano.push_results[slow.serial] = DeviceResult(slow.serial, slow.hostname, ok=False, lines=REFUSAL, seconds=0.4)
    site.certificate()
    done = site.instcert(*BRANCHES, "--push", pano)
    assert done.code == 13, done
    assert slow.hostname in done.err
    assert "PEND" not in done.err + done.out


def test_a_device_that_never_ends_runs_into_the_deadline(site: Site, pano: Panorama) -> None:
    """A device that stays PEND is no success: exit code 16, and the devices that have it are not called back."""
    _, stuck = firewalls(pano)
    pano.push_results[stuck.serial] = DeviceResult(stuck.serial, stuck.hostname, never_ends=True)
    site.certificate()
    done = site.instcert(*BRANCHES, "--push", "--timeout", "1.5", pano)
    assert done.code == 16, done
    assert "others still the old one" in done.err
    assert bound(pano, pano.template_path("Branches")) == NAME


def test_a_template_in_several_stacks_is_pushed_with_each(site: Site, pano: Panorama) -> None:
    """All stacks that hold the template are pushed, the others are not."""
    pano.add_template("Other")
    third, fourth = (site.firewall(f"fw{n}.example.test", serial=f"00700{n}") for n in (3, 4))
    pano.add_stack("S2", templates=["Other", "Branches"], devices=[third.serial])
    pano.add_stack("S3", templates=["Other"], devices=[fourth.serial])
    for fw in (third, fourth):
        pano.attach(fw)
    issued = site.certificate()
    done = site.instcert(*BRANCHES, "--push", "--json", pano)
    assert done.code == 0, done
    assert len(json.loads(done.out)["parts"]) == 3
    assert third.certificate(NAME, running=True) == issued.certificate
    assert fourth.certificate(NAME, running=True) is None


def test_a_refused_push_puts_panoramas_profile_back(site: Site, pano: Panorama) -> None:
    """Nothing reached a device yet: with -Y the old binding is committed again, exit code 15."""
    pano.faults.add(Fault.RAW, type="commit", action="all", reply=replies.error(" commit-all  is unexpected", code=17))
    site.certificate()
    done = site.instcert(*BRANCHES, "-Y", "--push", pano)
    assert done.code == 15, done
    assert bound(pano, pano.template_path("Branches")) == "old-GP"


def test_a_push_job_that_panorama_forgot_is_no_success(site: Site, pano: Panorama) -> None:
    """Without the job nobody knows what the devices have: exit code 13, and the next run pushes again."""
    site.certificate()
    assert site.instcert(*BRANCHES, pano).code == 0
    rule = pano.faults.add(Fault.RAW, type="op", text="<jobs>", reply=replies.error("job 3 not found"))
    done = site.instcert(*BRANCHES, "--push", pano)
    assert (done.code, "no longer knows its job" in done.err) == (13, True), done
    pano.faults.rules.remove(rule)
    done = site.instcert(*BRANCHES, "--push", pano)
    assert done.code == 0, done
    assert "OK" in done.out


def test_a_push_that_panorama_itself_fails_is_a_failure(site: Site, pano: Panorama) -> None:
    """A push job with result FAIL and no device that says why is exit code 13 with Panorama's lines."""
    pano.next_commits += [Outcome(), Outcome(fail=("template stack cannot be resolved",))]
    site.certificate()
    done = site.instcert(*BRANCHES, "--push", pano)
    assert (done.code, "S: template stack cannot be resolved" in done.err) == (13, True), done


def test_a_stack_without_devices_is_a_remark(site: Site) -> None:
    """A push that reaches no device succeeds, and says that there is none."""
    pano = site.panorama()
    pano.add_template("Branches")
    add_profile(pano, "Branches")
    pano.add_stack("S", templates=["Branches"])
    site.certificate()
    done = site.instcert(*BRANCHES, "--push", pano)
    assert (done.code, "has no device" in done.err) == (0, True), done


def test_scopes_name_the_places_that_devices_use() -> None:
    """The XPaths are those of the configuration files that were recorded."""
    local = "/config/devices/entry[@name='localhost.localdomain']"
    for where, panorama, base in (
        (scope.Scope(), False, "/config/shared"),
        (scope.Scope(), True, "/config/panorama"),
        (scope.Scope(vsys="vsys2"), False, f"{local}/vsys/entry[@name='vsys2']"),
        (scope.Scope(template="T"), True, f"{local}/template/entry[@name='T']/config/shared"),
        (
            scope.Scope(stack="S", vsys="vsys1"),
            True,
            f"{local}/template-stack/entry[@name='S']{local}/vsys/entry[@name='vsys1']",
        ),
    ):
        assert where.base(panorama=panorama) == base
