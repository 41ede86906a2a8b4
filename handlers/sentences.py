"""Every sentence for people in the answers of HTTP, in English and Chinese.

Pure: it must not know when an answer uses which sentence. The sentences of the WebSocket are in `messages.py`.
"""

from http import HTTPStatus

from handlers.language import Language
from storage.model import FAILURES

# name -> (English, Chinese). Values in braces are the same in both. A list is joined by commas.
SENTENCES: dict[str, tuple[str, str]] = {
    # ---- requests
    "metrics_token": (
        "This needs the header `Authorization: Bearer <server.metrics_token>`.",
        "此请求需要请求头 `Authorization: Bearer <server.metrics_token>`。",
    ),
    "nothing_here": ("There is nothing at this URL.", "这个网址下没有任何内容。"),
    "method_not_allowed": ("Methods that are allowed here: {methods}.", "这里允许的方法：{methods}。"),
    "unreadable": ("The server cannot read this request.", "服务器无法读取这个请求。"),
    "failed": (
        "Something went wrong on the server. Its log has details under {request_id}.",
        "服务器出错了。日志中编号 {request_id} 处有详细信息。",
    ),
    "no_body": ("This call needs a body in JSON.", "这个请求需要 JSON 正文。"),
    "not_json": ("The body is not JSON in UTF-8.", "请求正文不是 UTF-8 编码的 JSON。"),
    "not_json_at": (
        "The body is not JSON: there is a mistake at byte {byte}.",
        "请求正文不是 JSON：第 {byte} 字节处有误。",
    ),
    "json_ends_early": ("The body is not JSON: it ends too early.", "请求正文不是 JSON：内容不完整。"),
    "json_too_deep": ("The JSON of the body is nested too deeply.", "请求正文的 JSON 嵌套过深。"),
    "body_too_large": ("The body may have at most {most} bytes.", "请求正文最多 {most} 字节。"),
    "restarting": (
        "The server is restarting. Try again in a moment.",
        "服务器正在重启，请稍后再试。",
    ),
    "too_many_connections": (
        "This account may have at most {most} connections at a time. Try again later.",
        "一个账号同时最多有 {most} 个连接，请稍后再试。",
    ),
    "no_picture": ("There is no such image.", "没有这张图片。"),
    "url_expired": ("This URL has expired or was changed.", "这个网址已过期，或被改动过。"),
    "no_such_range": ("The image does not have these bytes.", "图片没有这个范围的字节。"),
    # ---- accounts
    "no_access_token": (
        "This call needs the header `Authorization: Bearer <access token>`.",
        "这个请求需要带上 `Authorization: Bearer <访问令牌>`。",
    ),
    "no_refresh_token": (
        "This call needs a refresh token: in the body as `refresh`, or in the cookie `{cookie}`.",
        "这个请求需要刷新令牌：放在正文的 `refresh` 字段里，或 Cookie `{cookie}` 里。",
    ),
    "access_token_invalid": ("The access token is not valid.", "访问令牌无效。"),
    "refresh_token_invalid": ("The refresh token is not valid.", "刷新令牌无效。"),
    "access_token_expired": (
        "The access token has expired. `POST /api/auth/refresh` gives a new one.",
        "访问令牌已过期，请用 `POST /api/auth/refresh` 换取新的令牌。",
    ),
    "refresh_token_expired": ("The refresh token has expired. Sign in again.", "刷新令牌已过期，请重新登录。"),
    "signed_out": ("This session has been signed out. Sign in again.", "已退出登录，请重新登录。"),
    "wrong_password": ("The username or the password is wrong.", "用户名或密码不正确。"),
    "name_taken": ("This username is taken.", "这个用户名已被使用。"),
    "registration_closed": ("This server takes no new accounts.", "这台服务器不开放注册。"),
    "too_many_sign_ins": (
        "Too many people are signing in just now. Try again in a moment.",
        "现在登录的人太多，请稍后再试。",
    ),
    "too_many_failures": (
        "Too many wrong passwords: at most {most} at once, and {most} every {minutes} minutes after that. "
        "Try again in {seconds} seconds.",
        "密码错误次数太多：一次最多 {most} 次，之后每 {minutes} 分钟最多 {most} 次。请在 {seconds} 秒后再试。",
    ),
    "too_many_registrations": (
        "Too many new accounts from your network: at most {most} at once, and {most} every {minutes} minutes after "
        "that. Try again in {seconds} seconds.",
        "你的网络新注册的账号太多：一次最多 {most} 个，之后每 {minutes} 分钟最多 {most} 个。请在 {seconds} 秒后再试。",
    ),
    # ---- dreams and images
    "not_found": ("There is no such thing.", "没有找到。"),
    "no_dream": ("There is no such dream.", "找不到这个梦。"),
    "no_image": ("There is no such image in this dream.", "这个梦里没有这张图片。"),
    "no_original": ("The server did not keep the original.", "原图没有保留。"),
    "no_upload": ("The uploaded file is no longer on the server.", "上传的文件已丢失。"),
    "dream_of_key_deleted": (
        "The dream that this Idempotency-Key made has been deleted.",
        "这个 Idempotency-Key 创建的梦已被删除。",
    ),
    "conflict": ("The state does not allow this.", "当前状态不允许这样做。"),
    "not_failed": ("Only a failed image can be retried.", "只有处理失败的图片才能重试。"),
    "dream_full": (
        "A dream may have at most {most} images; this one has {images}.",
        "一个梦最多有 {most} 张图片，这个梦已有 {images} 张。",
    ),
    "beyond_content": (
        "Position {position} lies behind the end of the content, {length} characters.",
        "位置 {position} 超出了正文末尾，正文共 {length} 个字符。",
    ),
    "bad_idempotency_key": (
        "An Idempotency-Key has 1 to {most} characters.",
        "Idempotency-Key 的长度为 1 到 {most} 个字符。",
    ),
    # ---- uploads
    "images_as_form": (
        "Send images as multipart/form-data with the fields `images` and `positions`.",
        "图片须以 multipart/form-data 上传，字段为 `images` 和 `positions`。",
    ),
    "form_unreadable": (
        "The server cannot read the body as multipart/form-data: a boundary or the header of a part has a mistake.",
        "服务器无法把请求正文作为 multipart/form-data 读取：分隔符或某一部分的头有误。",
    ),
    "no_boundary": (
        "The Content-Type multipart/form-data must name the boundary between the parts.",
        "Content-Type 为 multipart/form-data 时，必须给出分隔符 boundary。",
    ),
    "form_ends_early": (
        "The body, multipart/form-data, ends before its last boundary.",
        "请求正文 multipart/form-data 不完整，在最后的分隔符之前就结束了。",
    ),
    "upload_too_large": ("An upload may have at most {most} bytes in all.", "一次上传总共最多 {most} 字节。"),
    "image_too_large": ("An image may have at most {most} bytes.", "一张图片最多 {most} 字节。"),
    "text_too_large": ("The text fields may have at most {most} bytes in all.", "文本字段总共最多 {most} 字节。"),
    "too_many_images": ("A dream may have at most {most} images.", "一个梦最多有 {most} 张图片。"),
    "too_many_fields": ("There may be at most {most} text fields.", "最多有 {most} 个文本字段。"),
    "format_not_accepted": (
        "Image {number} is not in an accepted format. Accepted: {formats}.",
        "第 {number} 张图片的格式不受支持。支持的格式：{formats}。",
    ),
    "too_many_uploads": (
        "Too many images: at most {most} at once, and {most} every {minutes} minutes after that. "
        "Try again in {seconds} seconds.",
        "上传的图片太多：一次最多 {most} 张，之后每 {minutes} 分钟最多 {most} 张。请在 {seconds} 秒后再试。",
    ),
    # ---- unavailable parts of the server
    "no_room": ("There is no room left on the server's disk.", "服务器的磁盘空间不足。"),
    "unavailable": (
        "The server cannot reach its database or its file storage. Try again in a moment.",
        "服务器暂时无法访问数据库或文件存储，请稍后再试。",
    ),
    "database_unavailable": (
        "The database does not answer just now. Try again in a moment.",
        "数据库暂时没有响应，请稍后再试。",
    ),
    "busy": (
        "Other requests keep changing this just now. Try again in a moment.",
        "其他请求正在不断修改它，请稍后再试。",
    ),
    "storage_refuses": (
        "The file storage refuses this server. Its administrator has to change a setting.",
        "文件存储拒绝了这台服务器的请求，需要管理员修改设置。",
    ),
    # ---- mistakes in a field, after its name and a colon
    "wrong_type": ("expected {expected}, not {given}", "应为 {expected}，而不是 {given}"),
    "does_not_fit": ("{reason}", "不符合要求：{reason}"),
    "unknown_field": ("unknown field; allowed are {allowed}", "没有这个字段；可用的字段有 {allowed}"),
    "unknown_parameter": ("unknown parameter; allowed are {allowed}", "没有这个参数；可用的参数有 {allowed}"),
    "must_be_object": ("must be an object", "必须是一个对象"),
    "must_be_given": ("must be given", "必须填写"),
    "must_be_text": ("must be a text", "必须是文本"),
    "must_be_texts": ("must be a list of texts", "必须是文本列表"),
    "must_be_utf8": ("must be UTF-8", "必须是 UTF-8 编码"),
    "must_not_be_empty": ("must not be empty", "不能为空"),
    "half_a_character": (
        "has half of a surrogate pair, which is no character",
        "含有不成对的代理项，不是完整的字符",
    ),
    "text_too_long": (
        "may have at most {most} characters; this has {length}",
        "最多 {most} 个字符，现有 {length} 个",
    ),
    "wrong_length": ("must have {least} to {most} characters", "长度须为 {least} 到 {most} 个字符"),
    "control_characters": ("must not have control characters", "不能含有控制字符"),
    "too_many_items": ("there may be at most {most}", "最多有 {most} 个"),
    "only_once": ("may be given once", "只能出现一次"),
    "bad_lucidity": (
        "must be a whole number from {least} (not lucid) to {most}",
        "必须是 {least}（不清醒）到 {most} 的整数",
    ),
    "bad_time": (
        "must be a time with its offset, as 2026-11-22T06:10:00Z or 2026-11-22T06:10:00+08:00",
        "必须是带时区偏移的时间，如 2026-11-22T06:10:00Z 或 2026-11-22T06:10:00+08:00",
    ),
    "bad_night": (
        "must be a night as 2026-11-22 or a time as 2026-11-22T06:10:00Z",
        "必须是日期（如 2026-11-22）或时间（如 2026-11-22T06:10:00Z）",
    ),
    "bad_limit": ("must be a number from 1 to {most}", "必须是 1 到 {most} 的整数"),
    "bad_cursor": ("must be the next_cursor of a previous page", "必须是之前某一页的 next_cursor"),
    "bad_since": (
        "must be the revision that you have, a whole number",
        "必须是客户端已有的 revision，为整数",
    ),
    "since_is_missing": (
        "must be there with wait: the revision that you have",
        "使用 wait 时必须给出 since，即客户端已有的 revision",
    ),
    "bad_wait": (
        "must be a whole number of seconds from 0 to {most}",
        "必须是 0 到 {most} 的整数秒",
    ),
    "one_position_each": (
        "there must be one for each image: {images} images, {positions} positions",
        "每张图片须有一个位置：现有 {images} 张图片、{positions} 个位置",
    ),
    "bad_position": (
        "must be a whole number from 0 to {length}, the content's length in code points",
        "必须是 0 到 {length} 的整数，{length} 是正文的长度（按码位计）",
    ),
    "bad_moves": ("must be a list of {{id, position}}", "必须是 {{id, position}} 的列表"),
    "bad_image_id": ("an id is an integer", "id 必须是整数"),
    "image_id_twice": ("an id may be there once", "同一个 id 只能出现一次"),
    "no_images": ("must contain at least one image", "至少要有一张图片"),
    "empty_dream": (
        "a dream needs a title, content or an image",
        "一个梦至少要有标题、正文或一张图片",
    ),
}

TITLES = {
    400: "请求无效",
    401: "需要登录",
    403: "不允许",
    404: "未找到",
    405: "方法不允许",
    409: "冲突",
    413: "内容过大",
    415: "不支持的格式",
    416: "范围无效",
    422: "内容有误",
    429: "请求过多",
    500: "服务器内部错误",
    503: "服务暂时不可用",
    507: "存储空间不足",
}

FAILURES_IN_CHINESE = {
    "corrupt": "图片已损坏，无法读取。",
    "too_many_pixels": "图片的像素太多。",
    "too_many_frames": "动画的帧数太多。",
    "unsupported": "不支持这种图片。",
    "timed_out": "图片处理超时。",
    "out_of_memory": "处理这张图片需要的内存超出了限制。",
    "crashed": "处理图片时出错。",
    "storage_unavailable": "图片无法保存。",
    "upload_lost": "上传的文件已不存在。",
}


class Sentence:
    """One sentence of `SENTENCES` with the values of its placeholders; as a `str` it is English."""

    __slots__ = ("name", "values")

    def __init__(self, name: str, **values: object) -> None:
        """Raises `KeyError` where there is no such sentence."""
        self.name = name
        self.values = values
        SENTENCES[name]

    def __str__(self) -> str:
        return self.in_language("en")

    def in_language(self, language: Language) -> str:
        comma = {"en": ", ", "zh": "、"}[language]
        values = {
            name: comma.join(map(str, value)) if isinstance(value, list | tuple) else value
            for name, value in self.values.items()
        }
        return SENTENCES[self.name][language == "zh"].format(**values)


def title(status: int, language: Language) -> str:
    """The title of a problem: the phrase of its HTTP status."""
    phrase = HTTPStatus(status).phrase
    return TITLES.get(status, phrase) if language == "zh" else phrase


def failure(code: str, language: Language) -> str:
    """Why an image has failed; `code` is a key of `FAILURES`."""
    return FAILURES_IN_CHINESE[code] if language == "zh" else FAILURES[code][0]
