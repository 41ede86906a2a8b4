from django.conf import settings
from django.db import models


class Status(models.TextChoices):
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Dream(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    title = models.CharField(max_length=200)
    content = models.TextField(blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.PROCESSING)
    created_at = models.DateTimeField(auto_now_add=True)

    def as_json(self):
        images = [image.as_json() for image in self.images.all()]
        return {"id": self.pk, "title": self.title, "content": self.content, "status": self.status, "images": images}


class DreamImage(models.Model):
    dream = models.ForeignKey(Dream, related_name="images", on_delete=models.CASCADE)
    position = models.IntegerField()
    original = models.FileField(upload_to="originals/%Y%m%d")
    status = models.CharField(max_length=10, choices=Status, default=Status.PROCESSING)
    variants = models.JSONField(default=dict)  # {"2048": url, ...}

    class Meta:
        ordering = ("position", "id")

    @property
    def url(self):
        return self.variants.get(str(settings.VARIANT_SIDES[0]))

    def as_json(self):
        return {
            "id": self.pk,
            "position": self.position,
            "status": self.status,
            "url": self.url,
            "variants": self.variants,
        }
