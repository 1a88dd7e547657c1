"""Change XMP packets where what they say is no longer so."""
from __future__ import annotations

import re
from xml.dom import minidom
from xml.parsers.expat import ExpatError

# As an attribute or as an element.
_ORIENTATION = re.compile(rb'(\btiff:Orientation\s*(?:=\s*["\']|>)\s*)[2-8]')
# What is behind or beside a picture in its file, the namespaces that announce it, and the names there; '' begins all.
_ANNOUNCED = (
    ('gain map (for HDR)', 'http://ns.adobe.com/hdr-gain-map/1.0/', ('',)),
    ('gain map (for HDR)', 'http://ns.apple.com/HDRGainMap/1.0/', ('',)),
    ('moving part', 'http://ns.google.com/photos/1.0/camera/', ('MotionPhoto', 'MicroVideo')),
    ('extended XMP', 'http://ns.adobe.com/xmp/note/', ('HasExtendedXMP',)),
    ('', 'http://ns.google.com/photos/1.0/container/', ('',)),  # which lists all that is in the file
    ('', 'http://ns.google.com/photos/1.0/container/item/', ('',)),
)
_LABELS = {namespace: label for label, namespace, _ in _ANNOUNCED}
_NAMES = {namespace: names for _, namespace, names in _ANNOUNCED}


def reset_orientation(xmp: bytes | None) -> bytes | None:
    """Return XMP with its orientation set to 1; some programs turn pictures by it where there is no EXIF."""
    return xmp and _ORIENTATION.sub(rb'\g<1>1', xmp)


def remove_announcements(xmp: bytes) -> tuple[bytes | None, list[str]]:
    """Remove what announces data of the file that no result has: gain maps, videos, and more XMP.

    Returns:
        The packet, byte for byte the same where it announces none, and what it announced. None for a packet that can't
        be parsed and might.
    """
    if not any(namespace.encode() in xmp for namespace in _NAMES):
        return xmp, []
    if b'<!DOCTYPE' in xmp:  # could define entities without end
        return None, []
    try:
        document = minidom.parseString(xmp.strip(b'\0 \t\r\n'))  # noqa: S318, for there are no entities
    except (ExpatError, ValueError):
        return None, []
    announced = []
    for element in document.getElementsByTagName('*'):
        for attribute in list(element.attributes.values()):
            if (label := _find_label(attribute)) is not None:
                announced.append(label)
                element.removeAttributeNode(attribute)
            elif attribute.name.startswith('xmlns:') and _NAMES.get(attribute.value) == ('',):
                element.removeAttributeNode(attribute)  # nothing needs this prefix now
        if (label := _find_label(element)) is not None and element.parentNode is not None:
            announced.append(label)
            element.parentNode.removeChild(element)
    packet = ''.join(node.toxml() for node in document.childNodes).encode()
    return packet, [label for label in dict.fromkeys(announced) if label]


def _find_label(node: minidom.Attr | minidom.Element) -> str | None:
    """Return what an attribute or element announces, if anything."""
    namespace = node.namespaceURI or ''
    return _LABELS[namespace] if (node.localName or '').startswith(_NAMES.get(namespace, ())) else None
