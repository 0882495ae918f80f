"""Every sentence of the studio, in Chinese and English.

In: `ui/locales/studio_zh.yaml` and `studio_en.yaml`. Out: one frozen `Words` per language. The English help of a knob is
the recipe's own (data/recipe_schema.json), and what a command tells is English; translations stand in `train.knobs` and `told`.
"""

from functools import cache
from pathlib import Path

import ui.locales
from data.conversations import Role
from data.queue import Verb
from data.runs import State
from data.strict import Strict, read_yaml
from ui.locales import Language, Sentence


class PagesWords(Strict):
    """The names of the pages."""

    data: Sentence
    base: Sentence
    train: Sentence
    watch: Sentence
    compare: Sentence
    export: Sentence
    runs: Sentence


class GateWords(Strict):
    """The door."""

    under: Sentence
    field: Sentence
    open: Sentence
    lock: Sentence
    forgotten: Sentence
    locked: Sentence
    wrong: Sentence
    not_set: Sentence
    first: Sentence
    new: Sentence
    again: Sentence
    set_it: Sentence
    differs: Sentence
    unfit: Sentence


class DataWords(Strict):
    """The sets."""

    set: Sentence
    file: Sentence
    conversations: Sentence
    bad: Sentence
    checked: Sentence
    found: Sentence
    browse: Sentence
    check: Sentence
    stats: Sentence
    upload: Sentence
    share: Sentence
    share_help: Sentence
    all: Sentence
    train: Sentence
    validation: Sentence
    search: Sentence
    topic: Sentence
    split: Sentence
    counted: Sentence
    page: Sentence
    learned: Sentence
    given: Sentence
    system: Sentence
    roles: dict[Role, Sentence]
    tokens: Sentence
    tokens_now: Sentence
    check_now: Sentence
    errors: Sentence
    warnings: Sentence
    level: Sentence
    rule: Sentence
    row: Sentence
    turn: Sentence
    sentence: Sentence
    nothing_wrong: Sentence
    exchanges: Sentence
    lengths: Sentence
    answers: Sentence
    characters: Sentence
    number: Sentence
    age: Sentence
    topics: Sentence
    stats_under: Sentence
    stats_now: Sentence
    token_count: Sentence
    counted_with: Sentence
    with_loss: Sentence
    upload_under: Sentence
    name: Sentence
    bad_name: Sentence
    taken: Sentence
    add: Sentence
    added: Sentence
    remove: Sentence
    remove_sure: Sentence
    remove_yes: Sentence


class BaseWords(Strict):
    """The base model."""

    base: Sentence
    base_help: Sentence
    not_here: Sentence
    here: Sentence
    disk_needed: Sentence
    disk_free: Sentence
    disk_short: Sentence
    parameters: Sentence
    on_disk: Sentence
    memory_needed: Sentence
    memory_free: Sentence
    memory_short: Sentence
    about: Sentence
    download: Sentence
    hub: Sentence
    mirror: Sentence
    endpoint: Sentence
    fetch: Sentence
    resume: Sentence
    fetched: Sentence
    chat: Sentence
    chat_under: Sentence
    question: Sentence
    hello: Sentence
    ask: Sentence


class TrainWords(Strict):
    """A run before its start."""

    preset: Sentence
    preset_help: Sentence
    mine: Sentence
    reset: Sentence
    groups: dict[str, Sentence]
    default: Sentence
    range: Sentence
    because: Sentence
    none: Sentence
    units: dict[str, Sentence]
    names: dict[str, Sentence]
    knobs: dict[str, Sentence]
    importing: Sentence
    import_under: Sentence
    import_file: Sentence
    import_command: Sentence
    import_now: Sentence
    import_use: Sentence
    yaml: Sentence
    name: Sentence
    save: Sentence
    over: Sentence
    download: Sentence
    load: Sentence
    start_title: Sentence
    plan_under: Sentence
    plan: Sentence
    command: Sentence
    note: Sentence
    note_hint: Sentence
    start: Sentence
    started: Sentence
    steps: Sentence
    tokens: Sentence
    time: Sentence
    memory: Sentence
    queue: Sentence
    pause: Sentence
    stop: Sentence
    resume: Sentence


class WatchWords(Strict):
    """Runs while they learn."""

    none: Sentence
    runs: Sentence
    smoothing: Sentence
    about: Sentence
    loss: Sentence
    eval_loss: Sentence
    left: Sentence
    speed: Sentence
    share: Sentence
    gpu: Sentence
    gpu_use: Sentence
    memory: Sentence
    cpu: Sentence
    tokens: Sentence
    waiting: Sentence
    loss_title: Sentence
    step: Sentence
    train: Sentence
    smooth: Sentence
    validation: Sentence
    rate: Sentence
    gradient: Sentence
    report: Sentence
    report_under: Sentence
    report_now: Sentence
    tensorboard: Sentence
    tensorboard_under: Sentence


class CompareWords(Strict):
    """Before and after."""

    report: Sentence
    live: Sentence
    measured: Sentence
    measured_under: Sentence
    measure: Sentence
    adapter: Sentence
    merged: Sentence
    base: Sentence
    report_under: Sentence
    what: Sentence
    thinking: Sentence
    both: Sentence
    thinking_off: Sentence
    thinking_on: Sentence
    sampling: Sentence
    contract: Sentence
    free: Sentence
    temperature: Sentence
    max_tokens: Sentence
    greedy: Sentence
    questions: Sentence
    questions_hint: Sentence
    questions_file: Sentence
    compare: Sentence
    download: Sentence
    live_under: Sentence
    models: Sentence
    question: Sentence
    ask: Sentence


class ExportWords(Strict):
    """From an adapter to a model that is served."""

    merge_title: Sentence
    no_runs: Sentence
    run: Sentence
    name: Sentence
    bad_name: Sentence
    merge: Sentence
    merged: Sentence
    is_served: Sentence
    no_models: Sentence
    model: Sentence
    fingerprint: Sentence
    size: Sentence
    free: Sentence
    is_current: Sentence
    is_older: Sentence
    card: Sentence
    promote_title: Sentence
    promote_under: Sentence
    promote: Sentence
    promoted: Sentence
    restart: Sentence
    archive_title: Sentence
    archive_under: Sentence
    archive: Sentence
    too_large: Sentence
    download: Sentence
    push_title: Sentence
    push_under: Sentence
    repository: Sentence
    token: Sentence
    private: Sentence
    push: Sentence


class RunsWords(Strict):
    """The queue and its history."""

    none: Sentence
    waiting: Sentence
    running: Sentence
    used: Sentence
    free: Sentence
    state: Sentence
    run: Sentence
    verb: Sentence
    note: Sentence
    created: Sentence
    disk: Sentence
    open: Sentence
    search: Sentence
    show: Sentence
    only_runs: Sentence
    all: Sentence
    curve: Sentence
    recipe: Sentence
    save_note: Sentence
    delete: Sentence
    delete_later: Sentence
    sure: Sentence
    delete_yes: Sentence


class Words(Strict):
    """The words of the studio. Braces mark what the page fills in."""

    name: Sentence
    language: Sentence
    log: Sentence
    stop: Sentence
    why: Sentence
    no_worker: Sentence
    queue: Sentence
    disk: Sentence
    disk_full: Sentence
    states: dict[State, Sentence]
    pages: PagesWords
    # What each page is for, and which one comes next.
    guide: PagesWords
    verbs: dict[Verb, Sentence]
    gate: GateWords
    data: DataWords
    base: BaseWords
    train: TrainWords
    watch: WatchWords
    compare: CompareWords
    export: ExportWords
    runs: RunsWords
    # Sentences of a command, and what the page shows for them (told.py).
    told: dict[Sentence, Sentence]


@cache
def words_in(language: Language) -> Words:
    """The words of one language. Raises `BadInput` where one is missing."""
    path = Path(ui.locales.__file__).parent / f"studio_{language}.yaml"
    return Words.parse(read_yaml(path), str(path))
