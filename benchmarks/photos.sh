#!/bin/bash
# photos.sh OUT   make the photo folders of the benchmarks from photographs in Debian's wallpaper packages
#   OUT/orig   24 photographs as packaged (JPEG, 4 to 20 megapixels)
#   OUT/phone  the same 24 as a phone would send them: 4032x3024 JPEG q92, EXIF orientation 1, 3, 6 or 8
#   OUT/tiny   the same 24 at 320x240, for runs that should not measure image processing
#   OUT/eight, OUT/screenshots, OUT/png   four of them as 3264x2448 JPEG, in a 1170x2532 PNG of a screen with text, and
#              as 4032x3024 PNG
# The choice is fixed and Pillow is pinned, so two runs give the same bytes. Needs apt-get, dpkg and python3-venv.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: photos.sh OUT}"
cd "$1"
for package in lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds plasma-workspace-wallpapers; do
    [ -d ".unpacked/$package" ] && continue
    rm -rf .download && mkdir .download
    (cd .download && apt-get -q download "$package")
    mkdir -p ".unpacked/$package.part"
    dpkg -x .download/*.deb ".unpacked/$package.part"
    mv ".unpacked/$package.part" ".unpacked/$package"
done
rm -rf .download
[ -x .venv/bin/pip ] || python3 -m venv .venv
.venv/bin/pip install -q Pillow==13.0.0
.venv/bin/python "$here/photos.py" .unpacked .
for kind in orig phone tiny eight screenshots png; do
    echo "$kind: $(ls $kind | wc -l) files, $(cat $kind/* | wc -c) bytes, sha256 $(cat $kind/* | sha256sum | cut -c1-16)"
done
