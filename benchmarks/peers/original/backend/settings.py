"""Settings come from the environment; up.sh sets every SEED_* variable."""

import os
from pathlib import Path

env = os.environ.get
BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = env("SEED_SECRET_KEY", "insecure-benchmark-key-of-sufficient-length-0123456789")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "channels",
    "dreams",
]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "backend.urls"
ASGI_APPLICATION = "backend.asgi.application"

# Persistent connections do not suit ASGI; Django's documentation advises a pool.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": env("SEED_PG_PORT", "5432"),
        "NAME": "dreams",
        "USER": "dreams",
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 16, "timeout": 30}},
    }
}

REDIS = f"redis://:{env('SEED_REDIS_PASSWORD', '')}@127.0.0.1:{env('SEED_REDIS_PORT', '6379')}"
# redis-py 8 gives up reading after 5 s, exactly as long as channels_redis blocks in BZPOPMIN, which then drops a
# connection (channels_redis issue 422), and allows 100 connections, fewer than a burst of group_add or group_discard
# calls opens. SEED_LITERAL_LAYER=1 takes the documented one-line configuration and shows both.
layer_host = {"address": f"{REDIS}/2", "socket_timeout": None, "max_connections": 8000}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [f"{REDIS}/2" if env("SEED_LITERAL_LAYER") == "1" else layer_host]},
    },
}

CELERY_BROKER_URL = f"{REDIS}/0"
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_DB_REUSE_MAX = 1000  # Celery's default is a new database connection for every task
# Off by default, as in Celery itself. SEED_ACKS_LATE=1 is the hardened setting.
CELERY_TASK_ACKS_LATE = env("SEED_ACKS_LATE", "0") == "1"
CELERY_TASK_REJECT_ON_WORKER_LOST = CELERY_TASK_ACKS_LATE
# How long the redis broker waits before it hands an unacknowledged task out again (default: 1 h).
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": int(env("SEED_VISIBILITY_TIMEOUT", "3600"))}

MEDIA_ROOT = Path(env("SEED_MEDIA_ROOT", BASE_DIR / "media"))
MEDIA_URL = "/media/"
# Same file system as MEDIA_ROOT, so a large upload is renamed into place and not copied.
FILE_UPLOAD_TEMP_DIR = MEDIA_ROOT / "tmp"

JWT_LIFETIME = 24 * 3600
AUTHENTICATION_TIMEOUT = 10
MAX_IMAGES = 9
MAX_IMAGE_BYTES = 20 * 1024 * 1024
VARIANT_SIDES = (2048, 1024, 320)
# format:quality[:method]. For comparisons of equal output with another server.
OUTPUT = env("SEED_OUTPUT", "webp:80:4").split(":")
