"""The world the embedded model lives in: small scenes of coloured shapes and numbers, and questions about them.

Everything is a pure function of a seed, so nothing needs storing. A scene is 128 x 128 pixels, a 16 x 16 grid of 8-pixel patches.
"""
import functools, math
from dataclasses import dataclass, field
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE, PATCH = 128, 8
GRID = SIZE // PATCH
COLORS = {'red': (222, 40, 40), 'green': (40, 165, 60), 'blue': (45, 75, 220), 'yellow': (238, 215, 45), 'purple': (130, 45, 175),
          'orange': (242, 135, 25), 'pink': (250, 150, 195), 'cyan': (50, 215, 225), 'white': (246, 246, 246), 'black': (14, 14, 14)}
SHAPES = ['circle', 'square', 'triangle', 'star', 'cross', 'ring', 'diamond', 'heart', 'moon']
COLOR_NAMES = list(COLORS)
MAX_DIGITS = 4

# Training, validation and the shipped evaluation set draw their seeds from ranges that do not meet.
TRAIN_SEED, VALIDATION_SEED, SHIPPED_SEED = 0, 2_000_000_000, 3_000_000_000


@dataclass
class Thing:
    """A shape: centre and radius in pixels."""
    color: str
    shape: str
    x: float
    y: float
    radius: float

    @property
    def name(self): return f'{self.color} {self.shape}'


@dataclass
class Scene:
    image: Image.Image
    things: list
    number: str | None
    crowded: bool
    # Per patch, [GRID, GRID] each, 0 where there is nothing: what a good encoder should know of the patch.
    color: np.ndarray = field(repr=False)       # 1 + index of the colour
    shape: np.ndarray = field(repr=False)       # 1 + index of the shape
    digit: np.ndarray = field(repr=False)       # 1 + the digit
    place: np.ndarray = field(repr=False)       # 1 + which digit of the number, from the left
    center: np.ndarray = field(repr=False)      # 1 where a shape has its centre
    centroid: np.ndarray = field(repr=False)    # [2]: mean x, y of the content patches, -1..1


@functools.lru_cache(maxsize=None)
def shape_mask(shape, half_pixels):
    """A shape of radius half_pixels / 2, antialiased by drawing it four times as large."""
    r = half_pixels / 2 * 4
    side = 4 * (math.ceil(half_pixels / 2) * 2 + 1)
    c = side / 2
    image = Image.new('L', (side, side))
    d = ImageDraw.Draw(image)
    if shape == 'circle': d.ellipse([c - r, c - r, c + r, c + r], fill=255)
    elif shape == 'square': d.rectangle([c - r * .86, c - r * .86, c + r * .86, c + r * .86], fill=255)
    elif shape == 'triangle': d.polygon([(c, c - r), (c - r, c + r * .8), (c + r, c + r * .8)], fill=255)
    elif shape == 'diamond': d.polygon([(c, c - r), (c + r * .72, c), (c, c + r), (c - r * .72, c)], fill=255)
    elif shape == 'star':
        turn = [(r if i % 2 == 0 else r * .42, -math.pi / 2 + i * math.pi / 5) for i in range(10)]
        d.polygon([(c + q * math.cos(a), c + q * math.sin(a)) for q, a in turn], fill=255)
    elif shape == 'cross':
        w = r * .34
        d.rectangle([c - w, c - r, c + w, c + r], fill=255); d.rectangle([c - r, c - w, c + r, c + w], fill=255)
    elif shape == 'ring': d.ellipse([c - r, c - r, c + r, c + r], outline=255, width=max(8, int(r * .36)))
    elif shape == 'heart':
        t = np.linspace(0, 2 * math.pi, 60)
        x, y = 16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        d.polygon([(c + r * a / 16, c - r * (b + 2.5) / 15) for a, b in zip(x, y)], fill=255)
    elif shape == 'moon':
        d.ellipse([c - r, c - r, c + r, c + r], fill=255)
        d.ellipse([c - r * .35, c - r * .9, c + r * 1.45, c + r * .9], fill=0)
    return image.resize((side // 4, side // 4), Image.BOX)


@functools.lru_cache(maxsize=None)
def digit_mask(digit, size, bold):
    """A digit in Pillow's built-in face (Aileron, CC0): the mask, cropped to its ink."""
    font = ImageFont.load_default(size)
    image = Image.new('L', (2 * size, 2 * size))
    ImageDraw.Draw(image).text((size // 2, size // 4), digit, fill=255, font=font, stroke_width=bold * .35)
    return image.crop(image.getbbox())


def background(rng):
    base = rng.integers(90, 170, 3).astype(np.float32)
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    slope = rng.normal(0, 14, (2, 3)).astype(np.float32)
    noise = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * 6
    a = base + ramp[None, :, None] * slope[0] + ramp[:, None, None] * slope[1] + noise
    return Image.fromarray(np.clip(a, 0, 255).astype(np.uint8))


def make_scene(seed, most=5):
    """The scene of a seed: 1 to `most` shapes, no two of the same colour and shape; one scene in eight is crowded, with 8 to 12."""
    rng = np.random.default_rng(seed)
    image = background(rng)
    owner = Image.new('L', (SIZE, SIZE))          # which content covers a pixel: 1.. things, 101.. digits
    boxes, things, number = [], [], None
    crowded = most == 5 and rng.random() < .125

    def free(box): return all(box[2] <= b[0] or box[0] >= b[2] or box[3] <= b[1] or box[1] >= b[3] for b in boxes)

    if rng.random() < .75:
        number = ''.join(str(d) for d in rng.integers(0, 10, int(rng.integers(1, MAX_DIGITS + 1))))
        size, bold = int(rng.integers(16, 21)), int(rng.integers(1, 3))
        ink = (250, 250, 250) if rng.random() < .5 else (10, 10, 10)
        masks = [digit_mask(d, size, bold) for d in number]
        gap = int(rng.integers(2, 4))
        width, height = sum(m.width for m in masks) + gap * (len(masks) - 1), max(m.height for m in masks)
        x, y = int(rng.integers(2, SIZE - width - 1)), int(rng.integers(2, SIZE - height - 1))
        boxes.append((x - 4, y - 4, x + width + 4, y + height + 4))
        draw = ImageDraw.Draw(owner)
        for i, m in enumerate(masks):
            image.paste(ink, (x, y), m)
            draw.rectangle([x, y, x + m.width - 1, y + m.height - 1], fill=101 + i)
            x += m.width + gap
    wanted = int(rng.integers(8, 13)) if crowded else int(rng.integers(1, most + 1))
    low, high = (11, 16) if crowded else (13, 22)  # radius in half pixels
    used = set()
    for _ in range(wanted * 8):
        if len(things) == wanted: break
        half = int(rng.integers(low, high + 1))
        edge = math.ceil(half / 2)
        x, y = (int(v) for v in rng.integers(edge + 1, SIZE - edge - 1, 2))
        box = (x - edge - 2, y - edge - 2, x + edge + 3, y + edge + 3)
        color, shape = COLOR_NAMES[int(rng.integers(len(COLORS)))], SHAPES[int(rng.integers(len(SHAPES)))]
        if not free(box) or (color, shape) in used: continue
        used.add((color, shape)); boxes.append(box)
        paint = tuple(int(v) for v in np.clip(rng.normal(COLORS[color], 9), 0, 255))
        mask = shape_mask(shape, half)
        corner = (x - mask.width // 2, y - mask.height // 2)
        image.paste(paint, corner, mask)
        owner.paste(len(things) + 1, corner, mask.point(lambda v: 255 if v > 127 else 0))
        things.append(Thing(color, shape, x + .5, y + .5, half / 2))
    return Scene(image, things, number, crowded, *patch_labels(np.asarray(owner), things, number))


def patch_labels(owner, things, number):
    """A patch belongs to the content that covers most of it, if that is at least a sixth of the patch."""
    patches = owner.reshape(GRID, PATCH, GRID, PATCH).transpose(0, 2, 1, 3).reshape(GRID * GRID, -1)
    cover = np.zeros((GRID * GRID, 110), np.int32)
    for value in np.unique(patches): cover[:, value] = (patches == value).sum(1)
    best = cover[:, 1:].argmax(1) + 1
    best[cover[np.arange(len(best)), best] < PATCH * PATCH / 6] = 0
    color, shape, digit, place, center = (np.zeros(GRID * GRID, np.int64) for _ in range(5))
    for i, t in enumerate(things):
        color[best == i + 1] = 1 + COLOR_NAMES.index(t.color)
        shape[best == i + 1] = 1 + SHAPES.index(t.shape)
        center[int(t.y // PATCH) * GRID + int(t.x // PATCH)] = 1
    for i, d in enumerate(number or ''):
        digit[best == 101 + i] = 1 + int(d)
        place[best == 101 + i] = 1 + i
    content = np.nonzero(best)[0]
    centroid = np.array([(content % GRID).mean(), (content // GRID).mean()]) / (GRID - 1) * 2 - 1 if len(content) else np.zeros(2)
    return color, shape, digit, place, center, centroid.astype(np.float32)


# ---------------------------------------------------------------- questions

KINDS = ['presence', 'attribute', 'side', 'relation', 'number', 'count', 'choice']
SHARES = [.16, .14, .13, .21, .12, .08, .16]


@dataclass
class Question:
    """`marks`: (index of the character after a noun, the one Thing it names), for the location aid of training."""
    kind: str
    text: str
    answer: str
    marks: list = field(default_factory=list, repr=False)


def pick(rng, items): return items[int(rng.integers(len(items)))]


def fill(template, *nouns):
    """Put nouns into a template's braces; a noun is (words, the Thing named or None)."""
    pieces, text, marks = template.split('{}'), '', []
    for piece, noun in zip(pieces, [*nouns, None]):
        text += piece
        if noun is None: continue
        words, thing = noun
        if text.endswith(' a ') and words[0] in 'aeiou': text = text[:-1] + 'n '
        text += words
        if thing is not None: marks.append((len(text), thing))
    return text, marks


def named(thing): return thing.name, thing


def unique(things, key): return [t for t in things if sum(getattr(o, key) == getattr(t, key) for o in things) == 1]


def absent(rng, things):
    """A colour and shape that is not there; most share one of the two with something that is."""
    have = {(t.color, t.shape) for t in things}
    while True:
        color, shape = pick(rng, COLOR_NAMES), pick(rng, SHAPES)
        if rng.random() < .65:
            near = pick(rng, things)
            if rng.random() < .5: color = near.color
            else: shape = near.shape
        if (color, shape) not in have: return f'{color} {shape}'


def ask_presence(rng, scene):
    things = scene.things
    form = pick(rng, ['Is there a {} in the picture?', 'Is there a {} in the image?', 'Is there a {}?', 'Do you see a {}?',
                      'Does the image show a {}?', 'Does the picture contain a {}?', 'Can you find a {} here?'])
    which, yes = rng.random(), rng.random() < .5
    if which < .75: noun = named(pick(rng, things)) if yes else (absent(rng, things), None)
    else:  # a shape or a colour alone
        key, words = ('shape', SHAPES) if which < .88 else ('color', COLOR_NAMES)
        have = {getattr(t, key) for t in things}
        pool = sorted(have) if yes else [w for w in words if w not in have]
        if not pool: return None
        word = pick(rng, pool)
        hit = [t for t in things if getattr(t, key) == word]
        noun = (word if key == 'shape' else f'{word} shape', hit[0] if len(hit) == 1 else None)
    return *fill(form, noun), 'yes' if yes else 'no'


def ask_attribute(rng, scene):
    if rng.random() < .5:
        pool = unique(scene.things, 'shape')
        if not pool: return None
        t = pick(rng, pool)
        form = pick(rng, ['What color is the {}?', 'What colour is the {}?', 'What is the color of the {}?', 'Which color does the {} have?'])
        return *fill(form, (t.shape, t)), t.color
    pool = unique(scene.things, 'color')
    if not pool: return None
    t = pick(rng, pool)
    form = pick(rng, ['What shape is {}?', 'Which shape is {}?', 'What is the shape of the {} object?', 'What is the {} thing?'])
    return *fill(form, (t.color, t)), t.shape


def ask_side(rng, scene):
    t = pick(rng, scene.things)
    across, down = t.x - SIZE / 2, t.y - SIZE / 2
    if rng.random() < .5:
        if abs(across) < 7: return None
        form = pick(rng, ['Is the {} on the left or on the right?', 'Is the {} on the left or right side of the picture?', 'On which side is the {}, left or right?'])
        return *fill(form, named(t)), 'left' if across < 0 else 'right'
    if abs(down) < 7: return None
    form = pick(rng, ['Is the {} at the top or at the bottom?', 'Is the {} in the top or bottom half of the picture?', 'Where is the {}, top or bottom?'])
    return *fill(form, named(t)), 'top' if down < 0 else 'bottom'


def ask_relation(rng, scene):
    if len(scene.things) < 2: return None
    i, j = rng.choice(len(scene.things), 2, replace=False)
    a, b = scene.things[i], scene.things[j]
    across, down = a.x - b.x, a.y - b.y
    sideways, direct = rng.random() < .5, rng.random() < .45
    if abs(across if sideways else down) < 11: return None
    if direct:
        form = pick(rng, ['Is the {} left or right of the {}?', 'Is the {} to the left or to the right of the {}?']) if sideways else \
            pick(rng, ['Is the {} above or below the {}?', 'Is the {} higher up, above, or lower down, below the {}?'])
        answer = ('left' if across < 0 else 'right') if sideways else ('above' if down < 0 else 'below')
        return *fill(form, named(a), named(b)), answer
    # Three "left" or "above" to one "right" or "below": asked evenly, yes/no is an XOR that is not learnt for an hour.
    first = rng.random() < .75
    if sideways:
        form = pick(rng, ['Is the {} ' + w + ' of the {}?' for w in (('left', 'to the left') if first else ('right', 'to the right'))])
        true = (across < 0) == first
    else:
        form, true = f"Is the {{}} {'above' if first else 'below'} the {{}}?", (down < 0) == first
    return *fill(form, named(a), named(b)), 'yes' if true else 'no'


def ask_number(rng, scene):
    if scene.number is None and rng.random() < .6: return None
    form = pick(rng, ['What number is written in the picture?', 'What number is written here?', 'What number do you see?', 'Read the number.', 'Which number is in the image?'])
    return form, [], scene.number or 'none'


def ask_count(rng, scene):
    form = pick(rng, ['How many shapes are there?', 'How many shapes are in the picture?', 'How many shapes do you see?', 'Count the shapes.'])
    return form, [], str(len(scene.things))


def ask_choice(rng, scene):
    letters = 'ABCD'[:int(rng.integers(3, 5))]
    if rng.random() < .5:
        right = pick(rng, scene.things)
        head, marks = pick(rng, ['Which of these is in the picture?', 'Which of these can you see?']), []
        wrong = set()
        while len(wrong) < len(letters) - 1: wrong.add(absent(rng, scene.things))
        options = [(w, None) for w in sorted(wrong)]
        rng.shuffle(options)
        options = [tuple(o) for o in options]
        right = named(right)
    else:
        color = rng.random() < .5
        pool = unique(scene.things, 'shape' if color else 'color')
        if not pool: return None
        t = pick(rng, pool)
        head, marks = fill(pick(rng, ['What color is the {}?', 'Which color does the {} have?']), (t.shape, t)) if color else \
            fill(pick(rng, ['What shape is {}?', 'Which shape is {}?']), (t.color, t))
        answer = t.color if color else t.shape
        others = [w for w in (COLOR_NAMES if color else SHAPES) if w != answer]
        options = [(others[i], None) for i in rng.choice(len(others), len(letters) - 1, replace=False)]
        right = (answer, None)
    at = int(rng.integers(len(letters)))
    options.insert(at, right)
    text = head
    for letter, (words, thing) in zip(letters, options):
        text += f'\n{letter}. {words}'
        if thing is not None: marks.append((len(text), thing))
    return text + '\n' + pick(rng, ['Answer with the letter.', 'Which letter is right?']), marks, letters[at]


ASK = dict(presence=ask_presence, attribute=ask_attribute, side=ask_side, relation=ask_relation, number=ask_number, count=ask_count, choice=ask_choice)


def ask(rng, scene, kind):
    """One question of a kind about a scene, or None where the scene allows none (tried 12 times)."""
    for _ in range(12):
        made = ASK[kind](rng, scene)
        if made: return Question(kind, made[0], made[2], made[1])
    return None


def questions(rng, scene, count):
    """`count` questions of mixed kinds; one in ten all in lower case, as people type."""
    out = []
    while len(out) < count:
        q = ask(rng, scene, KINDS[int(rng.choice(len(KINDS), p=SHARES))])
        if q is None: continue
        if q.kind != 'choice' and rng.random() < .1: q.text = q.text.lower()
        out.append(q)
    return out
