import logging
from pathlib import Path

from celery import shared_task
from django.conf import settings
from PIL import Image, ImageOps

from .models import Dream, Status
from .notify import notify

log = logging.getLogger(__name__)


@shared_task
def process_dream(dream_id):
    """Make every image's variants, store them, and tell the dream's subscribers."""
    dream = Dream.objects.get(pk=dream_id)
    notify(dream_id, Status.PROCESSING)
    images = list(dream.images.all())
    for image in images:
        try:
            image.variants = make_variants(Path(image.original.path), f"variants/{dream_id}/{image.pk}")
            image.status = Status.COMPLETED
        except Exception:
            log.exception("image %s of dream %s", image.pk, dream_id)
            image.status = Status.FAILED
        image.save(update_fields=["variants", "status"])

    failed = any(image.status == Status.FAILED for image in images)
    dream.status = Status.FAILED if failed else Status.COMPLETED
    dream.save(update_fields=["status"])
    done = [{"id": image.pk, "url": image.url, "position": image.position} for image in images]
    notify(dream_id, dream.status, [] if failed else done)


def make_variants(source, prefix):
    """One decode; each variant is scaled from the next larger one. Returns {side: url}."""
    urls = {}
    (settings.MEDIA_ROOT / prefix).mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        if image.mode not in ("RGB", "RGBA"):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        for side in settings.VARIANT_SIDES:  # largest first
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            if not urls:  # cheaper on the reduced picture than on the full one
                image = ImageOps.exif_transpose(image)
            kind, quality, *method = settings.OUTPUT
            name = f"{prefix}/{side}.{kind}"
            more = {"method": int(method[0])} if method else {"optimize": True, "subsampling": "4:2:0"}
            image.save(settings.MEDIA_ROOT / name, kind, quality=int(quality), **more)
            urls[str(side)] = settings.MEDIA_URL + name
    return urls
