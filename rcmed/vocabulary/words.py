"""Words of a prompt: how they are split, spelled the same, and which of them carry no target."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

ARTICLES = frozenset("the a an side sided hand".split())
SIDES = frozenset(("left", "right"))
CLAUSE_ENDS = frozenset(";\n.?!:")
SEPARATORS = frozenset(", & + / | and or nor plus with but then also together along well".split())
PREPOSITIONS = frozenset("of in on within inside from".split())
# English words that are one letter from a term and are no slip of the pen.
NOT_MISSPELLED = frozenset(
    "aerial beast brawn cancel collapse colony costal enema fatal feeling grand grass heard hears hearth hearty legion "
    "lever liner livery livid mater muscly nervous nervy plural prove rental scull spire spline write".split()
)
NEGATIONS = frozenset(
    "no not non never neither nor none without except excluding exclude excluded ignore ignoring omit omitting skip "
    "skipping avoid avoiding minus absent absence dont doesnt isnt arent cannot cant wont".split()
)
MODALITY_WORDS = frozenset(
    "ct cta mr mri mra pet fdg xray x ray radiograph radiography ultrasound us sonogram sonography ultrasonography "
    "echo echocardiogram endoscopy endoscopic colonoscopy colonoscopic dermoscopy dermoscopic dermatoscopy fundoscopy "
    "histology histological histopathology histopathological pathology pathological microscopy microscopic "
    "tomography computed magnetic resonance imaging positron emission scan photo photograph photography picture image "
    "slice frame series study volume video t1 t2 flair dwi contrast enhanced weighted".split()
)
VERBS = frozenset(
    "segment outline find show delineate mark highlight locate localize localise detect contour draw identify label "
    "annotate extract get give check look search trace display measure recognize recognise segmenting finding".split()
)
STOP_WORDS = (
    frozenset(
        "please kindly me my your you i we us it its their this that these those there here is are was be been do "
        "does did have has had can could would should will may might want wanted need like see any some all each "
        "every both bilateral for to at by as only just again if whether where which what how much many big large "
        "who present visible seen shown area region boundary border extent location position size mask "
        "segmentation delineation contouring detection localization identification patient s t whole entire "
        "complete full everything anything something structure organ anatomy object target thing one rule out up "
        "let lets hi hello hey thank thanks now exactly precisely carefully accurately too possible possibly "
        "suspected evidence presence sign color colored ml mm cm cm2 cm3 mm2 mm3 diagnose determine evaluate "
        "assess tell appear instance".split()
    )
    | MODALITY_WORDS
    | VERBS
)
# Parts of the body that say where an image was taken, not what is asked for.
BODY_REGIONS = frozenset(
    "chest thoracic thorax abdominal abdomen abdominopelvic pelvic pelvis body torso cardiac fundus retinal retina eye "
    "ocular head neck".split()
)

_IRREGULAR_PLURALS = {
    "vertebrae": "vertebra",
    "costae": "costa",
    "nuclei": "nucleus",
    "hippocampi": "hippocampus",
    "atria": "atrium",
    "polypi": "polypus",
    "thrombi": "thrombus",
    "acini": "acinus",
    "glomeruli": "glomerulus",
    "aponeuroses": "aponeurosis",
    "glottides": "glottis",
    "plicae": "plica",
    "nevi": "nevus",
    "sarcomata": "sarcoma",
    "metastases": "metastasis",
    "diagnoses": "diagnosis",
    "fetuses": "fetus",
    "viscera": "viscus",
    "venae": "vena",
    "cavae": "cava",
    "arteriae": "arteria",
    "papillae": "papilla",
    "renes": "ren",
    "pulmones": "pulmo",
    "lienes": "lien",
    "corda": "cor",
    "glandulae": "glandula",
    "vesicae": "vesica",
    "musculi": "musculus",
    "ventriculi": "ventriculus",
    "disci": "discus",
    "nervi": "nervus",
    "vasa": "vas",
    "ossa": "os",
    "cellulae": "cellula",
    "tumores": "tumor",
    "carcinomata": "carcinoma",
    "aneurysmata": "aneurysm",
    "microaneurysmata": "microaneurysm",
}
_NO_PLURAL = frozenset(("pancreas", "gas", "atlas", "renes", "vas"))
_BRITISH = (
    (re.compile(r"^oe(?=s|d)"), "e"),
    (re.compile(r"^foet"), "fet"),
    (re.compile(r"^anaes"), "anes"),
    (re.compile(r"haem"), "hem"),
    (re.compile(r"oedem"), "edem"),
    (re.compile(r"naev"), "nev"),
    (re.compile(r"leuco"), "leuko"),
    (re.compile(r"^ischaem"), "ischem"),
    (re.compile(r"(?<=[mlv])our(?=al|s|$)"), "or"),
    (re.compile(r"^grey$"), "gray"),
    (re.compile(r"^disk"), "disc"),
    (re.compile(r"^fibre"), "fiber"),
    (re.compile(r"^centre"), "center"),
)
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[;\n.?!:,&+/|]")


@dataclass(frozen=True)
class Token:
    """A word or a separator of a text.

    Attributes:
        word: lower case, singular, American spelling; what is compared.
        start, end: where it stands in the text.
        spelled: the same before a plural was taken off.
    """

    word: str
    start: int
    end: int
    spelled: str = ""

    def respelled(self, word: str) -> Token:
        """The same place in the text with another spelling."""
        return replace(self, word=word)


def tokenize(text: str) -> tuple[Token, ...]:
    """Split a text into words and separators, without articles; hyphens, quotes and brackets part words."""
    tokens = (Token(normalise(found.group()), *found.span(), _plain(found.group())) for found in _TOKEN.finditer(text))
    return tuple(token for token in tokens if token.word not in ARTICLES)


def normalise(word: str) -> str:
    """Lower case, without accents, possessive or plural, in American spelling."""
    return _singular(_plain(word))


def _plain(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word.lower().replace("œ", "oe").replace("æ", "ae").replace("’", "'"))
    plain = "".join(mark for mark in decomposed if not unicodedata.combining(mark))
    plain = re.sub(r"'s$", "", plain).replace("'", "")
    for pattern, american in _BRITISH:
        plain = pattern.sub(american, plain)
    return plain


def _singular(word: str) -> str:
    if word in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[word]
    if len(word) < 4 or word in _NO_PLURAL or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "uses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word
