#!/bin/sh
# Makes the subsets beside this file: the letters of Latin, Greek and Cyrillic, figures, punctuation and a few signs of
# DejaVu Sans 2.37, without hints. Needs fonttools 4 (pyftsubset) and the two fonts; give their folder.
set -e
from=${1:?usage: make.sh FOLDER_OF_DEJAVU}
cd "$(dirname "$0")"
for font in DejaVuSans DejaVuSans-Bold; do
  pyftsubset "$from/$font.ttf" --output-file="$font-subset.ttf" --no-hinting --layout-features=kern --name-IDs='*' \
    --unicodes="U+20-7E,U+A0-17F,U+192,U+2C6-2DD,U+370-3FF,U+400-45F,U+490-491,U+2000-203A,U+2044,U+2070-208E,U+20AC,U+2116,U+2122,U+2190-2195,U+2212,U+2248,U+2260,U+2264,U+2265,U+25A1,U+FFFD"
done
