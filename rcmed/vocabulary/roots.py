"""Words that say the same: English and Latin nouns, their adjectives, and what people say at the bedside.

They decide only between whole terms: "tumor hepatis" has the words of "liver tumor", but "hepatic" alone names nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from rcmed.vocabulary.words import PREPOSITIONS

# The noun first, then its adjectives and the Latin noun with its cases, then everyday words.
_FAMILIES = """
left sinister sinistra sinistrum sinistri sinistrae
right dexter dextra dextrum dextri dextrae
anterior anterius front
posterior posterius back rear
superior superius upper
inferior inferius lower
liver hepatic hepar hepatis
kidney renal ren renis nephric
spleen splenic lien lienis
lung pulmonary pulmo pulmonis pulmonalis pulmonale pulmonic
heart cardiac cor cordis cordi
stomach gastric gaster gastris
pancreas pancreatic pancreatis
brain cerebral cerebrum cerebri encephalon
breast mammary mamma mammae mammal
skin cutaneous cutis dermal
prostate prostatic prostata prostatae
retina retinal retinae
nerve nervus nervi neural
disc discus disci
optic opticus optici optica opticum optical
papilla papillae
fetus fetal foetus baby infant unborn
skull cranium cranial
head caput capitis
vessel vas vasis vasorum vasculature vascular
vein vena venae venous
artery arteria arteriae arterial
cell cellula cellulae cellular
nucleus nuclear nuclei
cytoplasm cytoplasma cytoplasmic
gland glandula glandulae glandular
adrenal adrenalis suprarenal suprarenalis
muscle musculus musculi muscular
bone os ossis osseous bony
atrium atrial atrii
ventricle ventricular ventriculus ventriculi
bladder vesica vesicae vesical
urine urinary urinaria urinariae urinarius pee
gall bile biliary biliaris fellea felleae
bowel gut intestine intestinal intestinum intestini
colon colonic colorectal coli
spine spinal spinalis spina spinae
vertebra vertebral vertebralis vertebrae
cord chorda
medulla medullae
hippocampus hippocampal hippocampi
tumor neoplasm tumoris growth
mass lump
cancer carcinoma cancerous
malignant malign malignus malignum maligna
benign benignus benignum benigna
lesion laesio laesionis
edema edematous swelling
hemorrhage hemorrhagic bleeding bleed haemorrhagia
fluid water liquid
pleura pleural pleurae
polyp polypus polypi polypoid
tube tubus tubi
line linea
trachea tracheal tracheae windpipe
esophagus esophageal esophagi
small tenue tenuis
large crassum crassus
"""

_SAY_WHERE = PREPOSITIONS | {"around", "at", "by", "to", "for"}


@cache
def _roots() -> dict[str, str]:
    return {word: family.split()[0] for family in _FAMILIES.strip().splitlines() for word in family.split()}


def root(word: str) -> str:
    """The noun of a word's family, or the word itself."""
    return _roots().get(word, word)


def is_rooted(word: str) -> bool:
    """Whether a word belongs to a family."""
    return word in _roots()


def bag(words: Iterable[str]) -> tuple[str, ...]:
    """The roots of words in the order of the alphabet, without prepositions; the same whatever the words' order.

    Words that join ("and", "with") stay: "brain tumor with edema" is not the edema of a brain tumor.
    """
    return tuple(sorted({root(word) for word in words if word not in _SAY_WHERE}))
