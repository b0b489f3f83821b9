# The platform's one image; docker-compose.yml gives each process its command. No secret is in it.
FROM python:3.11-slim AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN python -m venv /tools && python -m venv --without-pip /venv
COPY requirements/uv.txt requirements/production.txt requirements/
RUN /tools/bin/pip install --require-hashes -r requirements/uv.txt \
    && /tools/bin/uv pip install --python /venv/bin/python --compile-bytecode --no-deps \
       --require-hashes -r requirements/production.txt
COPY . .
# Static files are collected under throw-away settings that do not stay.
RUN env $(/venv/bin/python -m config.secretfile) \
      DATABASE_URL=postgresql://build@127.0.0.1/build REDIS_URL=redis://127.0.0.1/0 \
      ALLOWED_HOSTS=build.invalid PUBLIC_URL=https://build.invalid \
      EMAIL_HOST=127.0.0.1 DEFAULT_FROM_EMAIL=build@build.invalid \
      /venv/bin/python manage.py collectstatic --no-input --settings=config.settings.production \
    && /venv/bin/python -m compileall -q /app

FROM python:3.11-slim

ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 DJANGO_SETTINGS_MODULE=config.settings.production
RUN useradd --system --uid 10001 --no-create-home sauda \
    && install -d -o sauda -g sauda -m 0700 /var/lib/sauda
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 10001
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--no-ws", "config.wsgi:application"]
