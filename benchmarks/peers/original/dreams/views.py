import json
from functools import wraps

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.http import JsonResponse
from django.views.decorators.http import require_GET, require_POST

from .auth import issue_token, user_id_from_bearer
from .models import Dream, DreamImage
from .tasks import process_dream


def error(status, detail):
    return JsonResponse({"detail": detail}, status=status)


def login_required(view):
    @wraps(view)
    def wrapper(request, *args, **kwargs):
        request.user_id = user_id_from_bearer(request.headers.get("Authorization"))
        if request.user_id is None:
            return error(401, "authentication required")
        return view(request, *args, **kwargs)

    return wrapper


def credentials(request):
    try:
        body = json.loads(request.body)
        username, password = body["username"], body["password"]
    except (ValueError, KeyError, TypeError):
        return None
    if not (isinstance(username, str) and isinstance(password, str) and username and password):
        return None
    return username, password


@require_POST
def register(request):
    if not (pair := credentials(request)):
        return error(400, "username and password required")
    try:
        with transaction.atomic():
            user = User.objects.create_user(pair[0], password=pair[1])
    except IntegrityError:
        return error(409, "username taken")
    return JsonResponse({"access": issue_token(user)}, status=201)


@require_POST
def login(request):
    pair = credentials(request)
    user = pair and authenticate(request, username=pair[0], password=pair[1])
    if not user:
        return error(401, "wrong username or password")
    return JsonResponse({"access": issue_token(user)})


@require_POST
@login_required
def create_dream(request):
    files = request.FILES.getlist("images")
    try:
        positions = [int(value) for value in request.POST.getlist("positions")]
    except ValueError:
        return error(400, "positions must be integers")
    title = request.POST.get("title", "").strip()
    if not title or len(title) > 200:
        return error(400, "title required, at most 200 characters")
    if not 1 <= len(files) <= settings.MAX_IMAGES or len(positions) != len(files):
        return error(400, f"1 to {settings.MAX_IMAGES} images required, one position for each")
    for file in files:
        if file.size > settings.MAX_IMAGE_BYTES or not (file.content_type or "").startswith("image/"):
            return error(400, f"{file.name}: not an image, or too large")

    with transaction.atomic():
        dream = Dream.objects.create(user_id=request.user_id, title=title, content=request.POST.get("content", ""))
        images = [DreamImage(dream=dream, position=p, original=f) for p, f in zip(positions, files, strict=True)]
        DreamImage.objects.bulk_create(images)  # also stores the files
        transaction.on_commit(lambda: process_dream.delay(dream.pk))
    return JsonResponse(dream.as_json(), status=201)


@require_GET
@login_required
def dream_detail(request, dream_id):
    dream = Dream.objects.filter(pk=dream_id, user_id=request.user_id).prefetch_related("images").first()
    return JsonResponse(dream.as_json()) if dream else error(404, "no such dream")
