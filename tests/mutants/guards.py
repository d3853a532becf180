"""Each guard that keeps a promise, how it is taken out, and the test that misses it then."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """One guard: `text` of `file` becomes `without`; `test` must fail."""

    name: str
    file: str
    text: str
    without: str
    test: str


RECORDS = "tests/service/test_records.py"
SUPERVISOR = "tests/service/test_supervisor.py"
LIMITS = "tests/service/test_limits.py"
PUBLICATION = "tests/service/test_publication.py"
STORE = "tests/serving/test_store.py"
RESUME = "tests/trainer/test_resume.py"
URI = "tests/service/test_data_by_uri.py"
IN_PLACE = "tests/service/test_data_in_place.py"
FETCHING = "tests/service/test_fetching.py"

GUARDS = (
    Guard(
        "the lease's end",
        "service/records/recovery.py",
        "        jobs.c.lease_until < now.seconds,\n",
        "",
        f"{RECORDS}::test_a_lost_lease_goes_back_to_the_queue_with_its_reason",
    ),
    Guard(
        "the lease's boot",
        "service/records/recovery.py",
        "        jobs.c.lease_boot != now.boot,\n",
        "",
        f"{RECORDS}::test_a_reboot_of_the_host_ends_every_lease",
    ),
    Guard(
        "the lease's clock",
        "service/records/database.py",
        "return Instant(time.clock_gettime(time.CLOCK_BOOTTIME), _boot_id())",
        "return Instant(time.time(), _boot_id())",
        f"{RECORDS}::test_a_stepped_wall_clock_ends_no_lease_and_no_wait",
    ),
    Guard(
        "the token of a write",
        "service/records/claims.py",
        "and_(jobs.c.id == claim.job.id, jobs.c.token == claim.token, jobs.c.status.in_(HELD))",
        "and_(jobs.c.id == claim.job.id, jobs.c.status.in_(HELD))",
        f"{RECORDS}::test_a_fenced_claim_writes_nothing",
    ),
    Guard(
        "the token raised when a row is put back",
        "service/records/claims.py",
        "            token=jobs.c.token + 1,\n            deaths",
        "            deaths",
        f"{PUBLICATION}::test_a_late_worker_can_not_end_a_job_that_waits_again",
    ),
    Guard(
        "one claimer a row",
        "service/records/claims.py",
        "                        jobs.c.token == found.token,\n"
        "                        jobs.c.status == Status.QUEUED.value,\n",
        "",
        f"{RECORDS}::test_workers_that_claim_at_once_never_get_the_same_job",
    ),
    Guard(
        "first come, first served",
        "service/records/claims.py",
        ".order_by(jobs.c.priority.desc(), jobs.c.seq)",
        ".order_by(jobs.c.priority.desc(), jobs.c.seq.desc())",
        f"{RECORDS}::test_the_best_waiting_job_is_claimed_first",
    ),
    Guard(
        "the last look before a child begins",
        "service/supervisor.py",
        "if boot_clock() >= order.leave_at or not self._site.records.claims.holds(self._claim):",
        "if False:",
        f"{SUPERVISOR}::test_a_claim_that_is_void_starts_no_child",
    ),
    Guard(
        "the supervisor's own lease",
        "service/attendance.py",
        "if fenced or boot_clock() >= self.lease_until:",
        "if fenced:",
        f"{SUPERVISOR}::test_an_attempt_ends_with_its_lease_when_the_database_does_not_answer",
    ),
    Guard(
        "the child's lease",
        "service/attempt.py",
        "        while boot_clock() < self._leave_at:\n",
        "        while True:\n",
        f"{SUPERVISOR}::test_a_child_leaves_when_no_heartbeat_reaches_it_and_says_why_by_its_exit_code",
    ),
    Guard(
        "the child's alarm, where no thread of Python runs",
        "service/attempt.py",
        "signal.setitimer(signal.ITIMER_REAL,",
        "id((signal.ITIMER_REAL),) or max(0.0,",
        f"{SUPERVISOR}::test_a_child_that_holds_the_interpreter_lock_leaves_at_its_deadline_too",
    ),
    Guard(
        "the end of stdin",
        "service/attempt.py",
        "                self._arm()\n"
        '            self.stop_asked = self.stop_asked or "stop" in message\n'
        '            self.cancel_asked = self.cancel_asked or "cancel" in message\n'
        "        os._exit(LEFT_ALONE)\n",
        "                self._arm()\n"
        '            self.stop_asked = self.stop_asked or "stop" in message\n'
        '            self.cancel_asked = self.cancel_asked or "cancel" in message\n',
        f"{SUPERVISOR}::test_a_child_leaves_when_its_supervisor_is_gone",
    ),
    Guard(
        "the kernel's tie to the worker",
        "service/attempt.py",
        "    tie_to(os.getppid(), signal.SIGKILL)\n",
        "",
        f"{LIMITS}::test_a_frozen_child_dies_with_its_worker",
    ),
    Guard(
        "the kill of the whole group",
        "service/child.py",
        "os.killpg(self._process.pid, signal.SIGKILL)",
        "os.kill(self._process.pid, signal.SIGKILL)",
        f"{SUPERVISOR}::test_a_childs_own_children_end_with_the_attempt",
    ),
    Guard(
        "the watch for processes that stand still",
        "service/attendance.py",
        "if vitals.stopped_s > self._site.settings.lease_s:",
        "if vitals.stopped_s > 1e9:",
        f"{LIMITS}::test_a_child_that_stands_still_for_a_lease_is_killed_without_blame",
    ),
    Guard(
        "the watch over memory",
        "service/attendance.py",
        "if limit_bytes is not None and vitals.memory_bytes > limit_bytes:",
        "if False:",
        f"{LIMITS}::test_a_child_over_its_memory_cap_is_killed_and_not_tried_again",
    ),
    Guard(
        "the count of deaths",
        "service/supervisor.py",
        "        if verdict.counted and self._is_last:",
        "        if False:",
        f"{LIMITS}::test_a_job_whose_child_dies_by_itself_three_times_is_poisoned",
    ),
    Guard(
        "progress, which is no death",
        "service/supervisor.py",
        "return self._work.mark(self._work_folder) != self._mark",
        "return False",
        f"{LIMITS}::test_deaths_are_counted_only_where_nothing_new_was_checkpointed",
    ),
    Guard(
        "events stored once",
        "service/records/telling.py",
        "        if last is not None and event.n <= last:\n            continue\n",
        "",
        f"{RECORDS}::test_events_are_numbered_without_gaps_and_stored_once",
    ),
    Guard(
        "curve points stored once",
        "service/records/telling.py",
        "    if known is not None:\n        return False\n",
        "    if known is not None:\n        return True\n",
        f"{RECORDS}::test_a_second_attempt_adds_no_point_of_the_curves_twice",
    ),
    Guard(
        "the Idempotency-Key's row",
        "service/records/jobs.py",
        "                    known = _by_key(connection, idempotency_key, body_digest)\n"
        "                    if known is not None:\n"
        "                        return known\n"
        "                job =",
        "                    idempotency_key = None\n                job =",
        f"{RECORDS}::test_twenty_posts_at_once_with_one_key_make_one_job",
    ),
    Guard(
        "one number a job",
        "service/records/versions.py",
        "            if known is not None:\n                return known\n",
        "",
        f"{RECORDS}::test_a_version_number_is_reserved_once_a_job_and_counts_up",
    ),
    Guard(
        "the last look before the rename",
        "service/kinds/train.py",
        "if number is None or not site.records.claims.holds(claim):",
        "if number is None:",
        f"{PUBLICATION}::test_a_worker_that_lost_its_job_while_it_published_publishes_nothing",
    ),
    Guard(
        "the publication that lacks only its row",
        "service/kinds/train.py",
        "    if number in site.store.versions(claim.job.name):\n        assert",
        "    if number in ():\n        assert",
        f"{PUBLICATION}::test_a_version_that_lacks_only_its_row_is_marked_and_not_trained_again",
    ),
    Guard(
        "a version's bytes on the disk before its number",
        "serving/store.py",
        "        _sync_tree(staging)\n        return sealed\n",
        "        return sealed\n",
        f"{STORE}::test_all_of_a_version_is_on_the_disk_before_it_has_its_number_and_the_number_before_the_answer",
    ),
    Guard(
        "a version's number on the disk before the answer",
        "serving/store.py",
        "        _sync(version.parent)\n        _sync(self.root)\n        return version\n",
        "        return version\n",
        f"{STORE}::test_all_of_a_version_is_on_the_disk_before_it_has_its_number_and_the_number_before_the_answer",
    ),
    Guard(
        "staging folders renamed before they are removed",
        "serving/store.py",
        "                path.rename(aside)\n            shutil.rmtree(aside,",
        "                pass\n            shutil.rmtree(path,",
        f"{STORE}::test_a_version_that_is_removed_between_the_last_look_and_the_rename_is_not_published",
    ),
    Guard(
        "a checkpoint's digests",
        "trainer/resume.py",
        "            self._whole[folder.name] = _matches_its_digests(folder)\n            if self._whole",
        "            self._whole[folder.name] = True\n            if self._whole",
        f"{RESUME}::test_a_damaged_checkpoint_is_passed_over",
    ),
    Guard(
        "the only good checkpoint, which is never pruned",
        "trainer/resume.py",
        "            elif self._is_whole(folder):",
        "            elif True:",
        f"{RESUME}::test_the_only_good_checkpoint_outlives_damaged_newer_ones",
    ),
    Guard(
        "data that a waiting job needs",
        "service/records/claims.py",
        "_may_start(now), ~UNREAD",
        "_may_start(now)",
        f"{URI}::test_a_waiting_upload_holds_its_job_too",
    ),
    Guard(
        "data of the network's inside",
        "service/fetching.py",
        "        if not public(address) and not any(address in network for network in networks):",
        "        if False:",
        f"{FETCHING}::test_a_listed_name_that_leads_inside_is_refused_unless_its_addresses_are_listed",
    ),
    Guard(
        "data behind a redirect",
        "service/fetching.py",
        "follow_redirects=False",
        "follow_redirects=True",
        f"{FETCHING}::test_a_redirect_is_not_followed",
    ),
    Guard(
        "data in place that changed",
        "service/mounted.py",
        "    if DataFile(file.path, file.conversions).digest != file.known_digest:",
        "    if False:",
        f"{IN_PLACE}::test_data_in_place_that_have_changed_are_refused_and_a_touch_is_no_change",
    ),
    Guard(
        "data in place behind a link",
        "service/mounted.py",
        "        if not is_below(Path(os.path.realpath(path)), roots):",
        "        if False:",
        f"{IN_PLACE}::test_a_folder_with_a_link_out_of_its_root_is_refused",
    ),
    Guard(
        "data of a job that is used while it is deleted",
        "service/records/jobs.py",
        "    if new.datasets:\n        _require_datasets(connection, new.datasets)\n",
        "",
        "tests/service/test_deleting_data.py::test_a_job_on_a_data_set_that_was_deleted_meanwhile_is_refused",
    ),
)
