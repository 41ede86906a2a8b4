"""photos.py UNPACKED OUT   converts the photographs for photos.sh"""

import hashlib
import shutil
import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageOps

LOMIRI16 = "lomiri-wallpapers-16.04/usr/share/backgrounds"
LOMIRI20 = "lomiri-wallpapers-20.04/usr/share/backgrounds"
MATE = "mate-backgrounds/usr/share/backgrounds/mate/nature"
PLASMA = "plasma-workspace-wallpapers/usr/share/wallpapers"
PHOTOS = [  # (path, EXIF orientation of the phone version)
    (f"{LOMIRI16}/Bridge_by_Sander_Klootwijk.jpg", 1),
    (f"{LOMIRI16}/Dragonfly_by_Bolly.jpg", 6),
    (f"{LOMIRI16}/Picture_0B_by_freespace.jpg", 1),
    (f"{LOMIRI16}/Wine_by_Jakkub_Mede.jpg", 6),
    (f"{LOMIRI16}/aitzgorri_by_Aitzol_Berasategi.jpg", 3),
    (f"{LOMIRI16}/friends_by_Aitzol_Berasategi.jpg", 8),
    (f"{LOMIRI16}/greentock_by_Peter_Nerlich.jpg", 1),
    (f"{LOMIRI16}/life_by_Aitzol_Berasategi.jpg", 6),
    (f"{LOMIRI16}/picosdeeuropa_by_Aitzol_Berasategi.jpg", 1),
    (f"{LOMIRI16}/seeding_by_Clements_Engelhardt.jpg", 6),
    (f"{LOMIRI16}/sunset_by_Aitzol_Berasategi.jpg", 3),
    (f"{LOMIRI20}/Kleiber_by_Lukas_Baubkus.jpg", 6),
    (f"{MATE}/Aqua.jpg", 1),
    (f"{MATE}/Garden.jpg", 1),
    (f"{MATE}/LadyBird.jpg", 8),
    (f"{MATE}/TwoWings.jpg", 6),
    (f"{MATE}/Wood.jpg", 1),
    (f"{MATE}/YellowFlower.jpg", 6),
    (f"{PLASMA}/BytheWater/contents/images/2560x1600.jpg", 3),
    (f"{PLASMA}/EveningGlow/contents/images/2560x1600.jpg", 1),
    (f"{PLASMA}/FallenLeaf/contents/images/2560x1600.jpg", 6),
    (f"{PLASMA}/OneStandsOut/contents/images/2560x1600.jpg", 1),
    (f"{PLASMA}/Path/contents/images/2560x1600.jpg", 6),
    (f"{PLASMA}/Volna/contents/images/5120x2880.jpg", 1),
]
SENSOR = (4032, 3024)
# Turns the upright picture into what a sensor held that way would have stored.
STORED = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def grain(size, amplitude, seed=1):
    """Noise like that of a sensor. It comes from hashes of a counter, so every run gives the same."""
    tile = 252  # divides 4032 and 3024
    data = b"".join(hashlib.sha256(f"{seed}:{n}".encode()).digest() for n in range(tile * tile * 4 // 32 + 1))
    # the sum of four bytes is close to normal
    out = bytes(
        min(255, max(0, 128 + round((sum(data[4 * i : 4 * i + 4]) - 510) * amplitude / 148)))
        for i in range(tile * tile)
    )
    small = Image.frombytes("L", (tile, tile), out)
    big = Image.new("L", size)
    for x in range(0, size[0], tile):
        for y in range(0, size[1], tile):
            big.paste(small, (x, y))
    return big


def phone(image, orientation, noise):
    upright = SENSOR if orientation in (1, 3) else SENSOR[::-1]
    image = ImageOps.fit(image, upright, Image.Resampling.LANCZOS)
    if STORED[orientation] is not None:
        image = image.transpose(STORED[orientation])
    # Packaged pictures are denoised or enlarged; without grain they would be far smaller than a phone's files.
    luma, blue, red = image.convert("YCbCr").split()
    luma = ImageChops.add(luma, noise, 1, -128)
    return Image.merge("YCbCr", (luma, blue, red))


def screenshot(image, seed):
    """An article on a phone's screen: flat colours, lines of small letters, a photo."""
    screen = Image.new("RGB", (1170, 2532), (250, 250, 252))
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, 1170, 150), fill=(32, 60, 110))
    screen.paste(ImageOps.fit(image, (1090, 720), Image.Resampling.LANCZOS), (40, 200))
    words = hashlib.sha256(str(seed).encode()).hexdigest() * 2
    for line in range(34):
        shift = line % 32
        draw.text((40, 970 + 45 * line), f"{words[shift : shift + 52]}.", fill=(28, 28, 30), font_size=32)
    return screen


def main(unpacked, out):
    for name in ("orig", "phone", "tiny", "eight", "screenshots", "png"):
        (out / name).mkdir(exist_ok=True)
    noise = grain(SENSOR, 3.0)
    for number, (path, orientation) in enumerate(PHOTOS, 1):
        source = unpacked / path
        name = f"{number:02d}.jpg"
        shutil.copyfile(source, out / "orig" / name)
        with Image.open(source) as image:
            image = ImageOps.exif_transpose(image).convert("RGB")
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x010F] = "Benchmark"
        phone(image, orientation, noise).save(out / "phone" / name, "JPEG", quality=92, subsampling="4:2:0", exif=exif)
        ImageOps.fit(image, (320, 240), Image.Resampling.LANCZOS).save(out / "tiny" / name, "JPEG", quality=85)
        if number % 6 == 1:
            eight = ImageOps.fit(image, (3264, 2448), Image.Resampling.LANCZOS)
            eight.save(out / "eight" / name, "JPEG", quality=92, subsampling="4:2:0")
            screenshot(image, number).save(out / "screenshots" / f"{number:02d}.png")
            phone(image, 1, noise).convert("RGB").save(out / "png" / f"{number:02d}.png")


main(Path(sys.argv[1]), Path(sys.argv[2]))
